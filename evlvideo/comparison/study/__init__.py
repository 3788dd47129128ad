"""Several runs, each with several seeds, trained, evaluated and compared by one command."""
