"""Vision-language models that are pre-trained: BLIP, ALBEF and CLIP, from transformers' layers."""
