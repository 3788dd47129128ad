"""Many runs by one command: studies, sweeps and the demo."""
