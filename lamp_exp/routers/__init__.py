"""Ways to choose among candidates' answers, question by question: one file each."""
