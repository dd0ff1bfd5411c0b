"""Tables, figures and one self-contained page, rebuilt from a run's result files. It knows no chapter."""
