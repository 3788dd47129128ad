"""Names of a captioner's forms and precisions; a run's config allows the same, and imports no torch to say so."""

FUSIONS = ("mean", "mean_tokens", "concat")
"""Where the frames of a clip become one; the first is the published form."""
CONTEXTUALIZERS = ("none", "in_tower", "merged")
"""Where the frames of a clip see each other."""
VISUAL_MASKS = ("causal", "full", "full_with_question")
"""Who sees whom in the language model; the first is EVLGen's."""
PRECISIONS = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
"""torch's name of the dtype of each precision."""
GRADIENTS = ("published", "full")
"""What takes gradients in the contrastive term."""
