"""The verbs of `python -m lamp_exp.report`: one module each, with `add_options` and `run`."""
