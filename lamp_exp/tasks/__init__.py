"""The tasks of LaMP: one file each."""
