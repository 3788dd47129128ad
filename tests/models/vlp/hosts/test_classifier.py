"""ALBEF with a head on statements: its layers, its start from a pre-trained host, and its loss."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_vlp import CAPTIONS, PRUNING, pixels, tiny_host
from torch.nn import functional as F
from transformers import BertModel
from transformers.models.bert.configuration_bert import BertConfig

from evlvideo.models.vlp.classification import ClassifierTraining, classification_loss
from evlvideo.models.vlp.hosts.classifier import AlbefClassifier, classifier_of
from evlvideo.models.vlp.hosts.files import save_host
from evlvideo.models.vlp.hosts.words import tokenized
from evlvideo.models.vlp.images import read_guidance


def tiny_classifier(images: int) -> tuple[AlbefClassifier, Any, dict[str, torch.Tensor]]:
    """A classifier in eval mode, the ALBEF that it started from, and texts."""
    host: Any
    host, tokenizer = tiny_host("albef")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = classifier_of(host, images, 3).eval()
    return model, host, tokenized(tokenizer, CAPTIONS, 12)


def test_entailment_is_a_two_layer_head_on_the_fused_first_token() -> None:
    model, host, texts = tiny_classifier(1)
    clips = pixels(frames=1)
    tokens = host.image_tokens(clips).flatten(1, 2)
    fused = host.fused_states(**texts, states=host.text_states(**texts), tokens=tokens)
    first, _, second = model.head
    torch.testing.assert_close(model.classify(clips, **texts), second(F.relu(first(fused[:, 0]))))


def test_each_image_of_a_pair_has_layers_of_its_own_in_turn() -> None:
    model, host, texts = tiny_classifier(2)
    clips = pixels()
    tokens, states = host.image_tokens(clips), host.text_states(**texts)
    mask = texts["attention_mask"]
    added = torch.zeros_like(mask, dtype=states.dtype).masked_fill(mask == 0, torch.finfo(states.dtype).min)
    for layer in host.text_encoder.encoder.layer[host.fusion_layer :]:
        for image in range(2):  # both start from the same weights
            states = layer(states, encoder_hidden_states=tokens[:, image], attention_mask=added[:, None, None])
    torch.testing.assert_close(model.classify(clips, **texts), model.head(states[:, 0]))


def test_layers_of_a_pair_share_keys_and_values_alone() -> None:
    model, _, _ = tiny_classifier(2)
    one, other = model.text_encoder.encoder.layer[model.fusion_layer : model.fusion_layer + 2]
    assert one.crossattention.self.key.weight is other.crossattention.self.key.weight
    assert one.crossattention.self.value.bias is other.crossattention.self.value.bias
    assert one.crossattention.self.query.weight is not other.crossattention.self.query.weight
    assert one.crossattention.output.dense.weight is not other.crossattention.output.dense.weight
    assert one.attention.self.key.weight is not other.attention.self.key.weight


@pytest.mark.parametrize("images", [1, 2])
def test_all_weights_are_trained(images: int) -> None:
    """No process waits for the gradient of a weight that has none."""
    model, _, texts = tiny_classifier(images)
    training = ClassifierTraining(model, read_guidance(PRUNING), 0.9)
    labels = torch.tensor([0, 1, 2, 0])
    losses = training(pixels(frames=images), **texts, labels=labels, alpha=0.4, generator=torch.Generator())
    losses["loss"].backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []
    assert training.teacher is not None
    assert all(weight.grad is None for weight in training.teacher.parameters())


@pytest.mark.parametrize("images", [1, 2])
def test_a_saved_classifier_is_opened_as_it_was(images: int, tmp_path: Path) -> None:
    model, _, texts = tiny_classifier(images)
    _, tokenizer = tiny_host("albef")
    save_host(model, tokenizer, tmp_path)
    kind: Any = AlbefClassifier
    opened = kind.from_pretrained(tmp_path).eval()
    clips = pixels(frames=images)
    assert torch.equal(opened.classify(clips, **texts), model.classify(clips, **texts))
    layers = opened.text_encoder.encoder.layer
    if images == 2:
        assert layers[1].crossattention.self.key.weight is layers[2].crossattention.self.key.weight


def test_a_statement_alone_is_classified_as_in_a_batch() -> None:
    model, _, texts = tiny_classifier(2)
    clips, guidance = pixels(), read_guidance(PRUNING)
    together = model.classify(clips, **texts, guidance=guidance)
    for place in range(len(clips)):
        own = {name: value[place : place + 1] for name, value in texts.items()}
        alone = model.classify(clips[place : place + 1], **own, guidance=guidance)
        torch.testing.assert_close(alone[0], together[place], rtol=1e-4, atol=1e-5)


def test_pruning_by_the_statement_changes_what_is_read() -> None:
    model, _, texts = tiny_classifier(1)
    clips = pixels(frames=1)
    whole, pruned = model.classify(clips, **texts), model.classify(clips, **texts, guidance=read_guidance(PRUNING))
    assert not torch.allclose(whole, pruned)


def test_the_loss_is_the_published_one() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, teacher = torch.randn(2, 5, 3, generator=generator)
    labels = torch.tensor([0, 1, 2, 0, 1])
    published = (
        0.6 * F.cross_entropy(logits, labels)
        - 0.4 * torch.sum(F.log_softmax(logits, dim=1) * F.softmax(teacher, dim=1), dim=1).mean()
    )
    torch.testing.assert_close(classification_loss(logits, labels, teacher, 0.4), published)
    torch.testing.assert_close(classification_loss(logits, labels, None, 0.4), F.cross_entropy(logits, labels))


def test_the_loss_of_half_precision_is_computed_in_float32() -> None:
    logits = torch.full((2, 3), 100.0).bfloat16()
    loss = classification_loss(logits, torch.tensor([0, 1]), logits, 0.4)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, torch.tensor(3.0).log())


def test_the_teacher_follows_and_sees_whole_images() -> None:
    model, _, texts = tiny_classifier(1)
    training = ClassifierTraining(model, None, 0.75)
    assert training.teacher is not None
    before = training.teacher.head[0].bias.clone()
    with torch.no_grad():
        model.head[0].bias += 1
    training.before_step()
    torch.testing.assert_close(training.teacher.head[0].bias, before + 0.25)
    inputs = {"labels": torch.tensor([0, 1, 2, 0]), "alpha": 1.0, "generator": torch.Generator()}
    whole = training.teacher.classify(pixels(frames=1), **texts)
    pruned = ClassifierTraining(model, read_guidance(PRUNING), 0.75)
    pruned.teacher = training.teacher
    student = model.classify(pixels(frames=1), **texts, guidance=pruned.guidance)
    expected = F.cross_entropy(student, whole.softmax(dim=-1))
    torch.testing.assert_close(pruned(pixels(frames=1), **texts, **inputs)["loss"], expected)


def test_a_bert_of_the_same_weights_fuses_one_image_alike() -> None:
    """transformers' BERT has the cross-attention of ALBEF's fusion layers."""
    model, _, texts = tiny_classifier(1)
    config = BertConfig(
        vocab_size=10, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
        layer_norm_eps=1e-12, is_decoder=True, add_cross_attention=True, attn_implementation="eager",
    )  # fmt: skip
    bert = BertModel(config, add_pooling_layer=False).eval()
    bert.encoder.load_state_dict(
        {
            name: value
            for number in range(2)
            for name, value in (
                (f"layer.{number}.{key}", weight)
                for key, weight in model.text_encoder.encoder.layer[1 + number].state_dict().items()
            )
        }
    )
    states, tokens = model.text_states(**texts), model.image_tokens(pixels(frames=1)).flatten(1, 2)
    mask = texts["attention_mask"]
    added = torch.zeros(mask.shape).masked_fill(mask == 0, torch.finfo(torch.float32).min)[:, None, None]
    ours = model.fused_over(mask, states, (tokens,))
    theirs = bert.encoder(states, attention_mask=added, encoder_hidden_states=tokens).last_hidden_state
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
