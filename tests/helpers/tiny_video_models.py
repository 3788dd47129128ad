"""Small video-text models of transformers with random weights, saved as their hub folders are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    InstructBlipVideoConfig,
    InstructBlipVideoForConditionalGeneration,
    InstructBlipVideoProcessor,
    InstructBlipVideoQFormerConfig,
    InstructBlipVideoVideoProcessor,
    InstructBlipVideoVisionConfig,
    LlamaConfig,
    LlavaNextImageProcessor,
    LlavaNextVideoConfig,
    LlavaNextVideoForConditionalGeneration,
    LlavaNextVideoProcessor,
    LlavaNextVideoVideoProcessor,
    OPTConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ProcessorMixin,
    Qwen2Config,
    T5Config,
    VideoLlama3Config,
    VideoLlama3ForConditionalGeneration,
    VideoLlama3ImageProcessor,
    VideoLlama3Processor,
    VideoLlama3VideoProcessor,
    VideoLlama3VisionConfig,
    VideoLlavaConfig,
    VideoLlavaForConditionalGeneration,
    VideoLlavaProcessor,
    VideoLlavaVideoProcessor,
)

SIZE = 28
PATCH = 14
QUERIES = 3
WIDTH = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = {**WIDTH, "intermediate_size": 48, "image_size": SIZE, "patch_size": PATCH}
LANGUAGE = {**WIDTH, "intermediate_size": 48, "num_key_value_heads": 2, "max_position_embeddings": 512}
WORDS = (
    "USER",
    "ASSISTANT",
    "Describe",
    "the",
    "video",
    "a",
    "man",
    "woman",
    "dog",
    "runs",
    "sits",
    "cooks",
    "in",
    "park",
)
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() }}: {% for part in message['content'] %}"
    "{% if part['type'] == 'video' %}<video>\n{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)


def word_tokenizer(*special: str, opens: str = "<s>", pads: bool = True) -> PreTrainedTokenizerFast:
    """Words and single characters, with LLaMA's special tokens and those named."""
    names = ["<pad>", "<s>", "</s>", "<unk>", *special]
    vocabulary = {name: place for place, name in enumerate(names)}
    for word in [*WORDS, *map(chr, range(33, 127))]:
        vocabulary.setdefault(word, len(vocabulary))
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    if opens:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{opens} $A", special_tokens=[(opens, vocabulary[opens])]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=list(special),
        **({"pad_token": "<pad>"} if pads else {}),
    )


def _language(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {**LANGUAGE, "vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def video_llava() -> tuple[PreTrainedModel, ProcessorMixin]:
    """No chat template: its prompts are plain text around `<video>`."""
    tokenizer = word_tokenizer("<image>", "<video>", pads=False)
    square = {"height": SIZE, "width": SIZE}
    processor = VideoLlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size=square),
        video_processor=VideoLlavaVideoProcessor(size={"shortest_edge": SIZE}, crop_size=square),
        tokenizer=tokenizer,
        patch_size=PATCH,
    )
    config = VideoLlavaConfig(
        vision_config=CLIPVisionConfig(**VISION),
        text_config=LlamaConfig(**_language(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
    )
    return VideoLlavaForConditionalGeneration(config), processor


def llava_next_video() -> tuple[PreTrainedModel, ProcessorMixin]:
    """With a chat template."""
    tokenizer = word_tokenizer("<image>", "<video>")
    square = {"height": 2 * SIZE, "width": 2 * SIZE}
    processor = LlavaNextVideoProcessor(
        video_processor=LlavaNextVideoVideoProcessor(size={"shortest_edge": 2 * SIZE}, crop_size=square),
        image_processor=LlavaNextImageProcessor(size={"shortest_edge": 2 * SIZE}, crop_size=square),
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        chat_template=CHAT_TEMPLATE,
    )
    config = LlavaNextVideoConfig(
        vision_config=CLIPVisionConfig(**{**VISION, "image_size": 2 * SIZE}),
        text_config=LlamaConfig(**_language(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
    )
    return LlavaNextVideoForConditionalGeneration(config), processor


def video_llama_3() -> tuple[PreTrainedModel, ProcessorMixin]:
    """Frames of any size, with their times in the prompt."""
    tokenizer = word_tokenizer("<|image_pad|>", "<|video_pad|>", opens="")
    sizes = {"shortest_edge": 28 * 28, "longest_edge": 8 * 56 * 56}
    processor = VideoLlama3Processor(
        image_processor=VideoLlama3ImageProcessor(size=sizes),
        tokenizer=tokenizer,
        video_processor=VideoLlama3VideoProcessor(size=sizes),
        chat_template=CHAT_TEMPLATE.replace("<video>", "<|video_pad|>"),
    )
    config = VideoLlama3Config(
        vision_config=VideoLlama3VisionConfig(**{**WIDTH, "intermediate_size": 48, "patch_size": PATCH}),
        text_config=Qwen2Config(**_language(tokenizer)),
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
    )
    return VideoLlama3ForConditionalGeneration(config), processor


def instructblip_video(encoder_decoder: bool = False) -> tuple[PreTrainedModel, ProcessorMixin]:
    """A Q-Former that reads the prompt, and four frames, no other number."""
    tokenizer, qformer_tokenizer = word_tokenizer("<video>", opens="</s>"), word_tokenizer()
    processor = InstructBlipVideoProcessor(
        InstructBlipVideoVideoProcessor(size={"height": SIZE, "width": SIZE}),
        tokenizer,
        qformer_tokenizer,
        num_query_tokens=QUERIES,
    )
    vocabulary = {"vocab_size": len(processor.tokenizer), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    text = (
        T5Config(d_model=32, d_ff=48, d_kv=16, num_layers=2, num_heads=2, decoder_start_token_id=0, **vocabulary)
        if encoder_decoder
        else OPTConfig(**WIDTH, ffn_dim=48, word_embed_proj_dim=32, **vocabulary)
    )
    config = InstructBlipVideoConfig(
        vision_config=InstructBlipVideoVisionConfig(**VISION, initializer_range=0.02),
        qformer_config=InstructBlipVideoQFormerConfig(**WIDTH, intermediate_size=48, vocab_size=len(qformer_tokenizer)),
        text_config=text,
        num_query_tokens=QUERIES,
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
    )
    return InstructBlipVideoForConditionalGeneration(config), processor


def instructblip_video_t5() -> tuple[PreTrainedModel, ProcessorMixin]:
    """With an encoder-decoder language model."""
    return instructblip_video(encoder_decoder=True)


FAMILIES: dict[str, Callable[[], tuple[PreTrainedModel, ProcessorMixin]]] = {
    "instructblip_video": instructblip_video,
    "instructblip_video_t5": instructblip_video_t5,
    "llava_next_video": llava_next_video,
    "video_llava": video_llava,
    "video_llama_3": video_llama_3,
}
"""How to build each family."""


def save_family(name: str, directory: Path, **generation: Any) -> Path:
    """Write a family's model and processor as a hub folder; `generation` goes into its generation_config.json."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, processor = FAMILIES[name]()
        for parameter in model.parameters():
            # Of a size that lets captions depend on the clip; transformers' own is near nothing.
            if parameter.dim() >= 2:
                torch.nn.init.normal_(parameter, std=2 * parameter[0].numel() ** -0.5)
    for key, value in generation.items():
        setattr(model.generation_config, key, value)
    model.save_pretrained(directory)
    processor.save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Give the folder of a family's model, written once; not to be changed."""
    root = tmp_path_factory.mktemp("families")

    def folder(name: str) -> Path:
        return root / name if (root / name).is_dir() else save_family(name, root / name)

    return folder
