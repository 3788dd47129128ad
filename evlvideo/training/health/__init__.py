"""What can go wrong in a run, and is told: losses that are not finite, and captions or soft prompts that collapse."""
