"""Tokenizers with the special tokens and chat templates of public families, trained on a few sentences."""

from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, LlamaConfig, PreTrainedTokenizerFast

from evlvideo.models.configuration import EvlVideoConfig

SENTENCES = ["a cat runs", "a dog", "the cat sits on a dog", "Write a caption for this video."] * 5
SENTENCES += ["system", "user", "assistant"] * 5

CHATML = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""Qwen's without its system turn."""
SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}"
    "{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + "
    "message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}"
    "{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{{ ' ' + message['content'] + eos_token }}{% else %}{{ raise_exception('Only user and assistant roles!') }}"
    "{% endif %}{% endfor %}"
)


def byte_level(special: list[str], chat_template: str | None = None, **roles: str) -> PreTrainedTokenizerFast:
    """Byte-level BPE, as GPT-2, Llama 3, Qwen and SmolLM have."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=chat_template, **roles)


def pieces(chat_template: str | None = None) -> PreTrainedTokenizerFast:
    """Pieces with a mark for the space before them, as Llama 2 and Mistral have."""
    special = ["<unk>", "<s>", "</s>"]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator([*SENTENCES, "[INST] [/INST]", "Question: ? \n"], trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, chat_template=chat_template, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def smollm2() -> PreTrainedTokenizerFast:
    """SmolLM2-Instruct's: its BOS token opens turns."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    roles = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"}
    return byte_level(special, SMOLLM2, unk_token="<|endoftext|>", **roles)


def llama3() -> PreTrainedTokenizerFast:
    """Llama-3-Instruct's: an EOS token of turns beside that of documents, and no padding."""
    headers = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    special = ["<|begin_of_text|>", "<|end_of_text|>", *headers]
    return byte_level(special, LLAMA3, bos_token="<|begin_of_text|>", eos_token="<|eot_id|>")


def mistral() -> PreTrainedTokenizerFast:
    """Mistral-Instruct's: the marks of turns are text, and the answer has a space before it."""
    return pieces(MISTRAL)


def qwen(*, base: bool = False) -> PreTrainedTokenizerFast:
    """Qwen2's, without a BOS token. Base models come with the chat template too, and another EOS token."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    end = "<|endoftext|>" if base else "<|im_end|>"
    return byte_level(special, CHATML, eos_token=end, pad_token="<|endoftext|>")


def gpt2() -> PreTrainedTokenizerFast:
    """GPT-2's: one special token, and no chat template."""
    end = "<|endoftext|>"
    return byte_level([end], bos_token=end, eos_token=end, unk_token=end)


CHATS = {"smollm2": smollm2, "llama3": llama3, "mistral": mistral, "qwen": qwen}
"""Families whose models were trained with their chat template."""


def language_model_config(
    directory: Path, tokenizer: PreTrainedTokenizerFast, stops: list[int] | None = None
) -> EvlVideoConfig:
    """A captioner's configuration that names a language model with this tokenizer, which stops at more tokens."""
    tokenizer.save_pretrained(directory)
    if stops is not None:
        GenerationConfig(eos_token_id=stops).save_pretrained(directory)
    text = LlamaConfig(hidden_size=16, num_attention_heads=2, num_hidden_layers=1, vocab_size=len(tokenizer))
    text.eos_token_id = None
    return EvlVideoConfig(language_model=str(directory), text_config=text)
