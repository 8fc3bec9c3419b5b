"""Loggers of training curves and final metrics; each module is one option of `logger=`."""
