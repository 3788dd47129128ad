"""The TomeFormer is BERT where it merges nothing, and a shorter sequence where it merges."""

from pathlib import Path

import pytest
import torch
from tiny_models import BERT_SIZES, MakeModel, chirp, fill, pixels
from transformers import BertConfig, BertForMaskedLM, BertModel

from evlvideo.errors import UserError
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.connectors.bert import copy_bert_weights
from evlvideo.models.connectors.tomeformer import TomeFormerEncoder

HIDDEN = BERT_SIZES["hidden_size"]
TOKENS = 17


def bert_config(**changes: object) -> BertConfig:
    return BertConfig(**(BERT_SIZES | changes))


def tomeformer(merge_r: object = 3, **changes: object) -> TomeFormerEncoder:
    return fill(TomeFormerEncoder(bert_config(), merge_r=merge_r, **changes)).eval()  # type: ignore[arg-type,return-value]


def same_bert(connector: TomeFormerEncoder, **changes: object) -> BertModel:
    """transformers' BERT with the weights of `connector`, as far as it has them."""
    bert = BertModel(bert_config(**changes), add_pooling_layer=False).eval()
    left = bert.load_state_dict(connector.state_dict(), strict=False)
    assert left.missing_keys == ["embeddings.word_embeddings.weight"]
    assert left.unexpected_keys == []
    return bert


def tokens(batch: int = 2, count: int = TOKENS) -> torch.Tensor:
    return chirp(batch, count, HIDDEN)


def test_merging_nothing_equals_bert_bit_for_bit() -> None:
    connector = tomeformer(0)
    bert = same_bert(connector)
    assert torch.equal(connector(tokens()), bert(inputs_embeds=tokens()).last_hidden_state)


def test_merging_nothing_equals_bert_in_training_with_the_same_dropout() -> None:
    connector = tomeformer(0)
    bert = same_bert(connector)
    torch.manual_seed(3)
    ours = connector.train()(tokens())
    torch.manual_seed(3)
    theirs = bert.train()(inputs_embeds=tokens()).last_hidden_state
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, connector.eval()(tokens()))


def test_merging_nothing_has_berts_gradients() -> None:
    connector = tomeformer(0)
    bert = same_bert(connector)
    connector(tokens()).square().sum().backward()
    bert(inputs_embeds=tokens()).last_hidden_state.square().sum().backward()
    theirs = {name: weight.grad for name, weight in bert.named_parameters()}
    for name, weight in connector.named_parameters():
        torch.testing.assert_close(weight.grad, theirs[name], msg=name)


def test_evlgens_sizes_leave_29_of_257_tokens() -> None:
    config = bert_config(num_hidden_layers=12, max_position_embeddings=257)
    connector = TomeFormerEncoder(config, merge_r=19).eval()
    assert connector(tokens(1, 257)).shape == (1, 29, HIDDEN)
    assert connector.num_output_tokens(257) == 29


@pytest.mark.parametrize("merge_r", [0, 1, 3, [5, 0], [0, 9], 100])
@pytest.mark.parametrize("class_token", [True, False])
def test_number_of_output_tokens_is_foretold(merge_r: object, class_token: bool) -> None:
    connector = tomeformer(merge_r, class_token=class_token)
    assert connector(tokens()).shape[1] == connector.num_output_tokens(TOKENS)


def test_every_layer_merges_by_its_own_r() -> None:
    connector = tomeformer([5, 1])
    lengths: list[int] = []
    for layer in connector.encoder["layer"]:
        layer.register_forward_hook(lambda _module, _inputs, output: lengths.append(output[0].shape[1]))
    connector(tokens())
    assert lengths == [12, 11]


def test_merging_happens_between_attention_and_feed_forward() -> None:
    connector = tomeformer([5, 0])
    layer = connector.encoder["layer"][0]
    lengths: dict[str, int] = {}
    layer.attention.output.register_forward_hook(lambda _m, _i, output: lengths.update(attention=output.shape[1]))
    layer.intermediate.register_forward_hook(lambda _m, _i, output: lengths.update(feed_forward=output.shape[1]))
    connector(tokens())
    assert lengths == {"attention": 17, "feed_forward": 12}


def test_tokens_of_a_clip_do_not_depend_on_the_batch() -> None:
    connector = tomeformer()
    torch.testing.assert_close(connector(tokens(3))[1:2], connector(tokens(3)[1:2]))


@pytest.mark.parametrize("reduction", ["mean", "size_weighted"])
def test_every_original_token_is_in_one_merged_token(reduction: str) -> None:
    connector = tomeformer(reduction=reduction)
    merged, source = connector.forward_with_source(tokens())
    assert source.shape == (2, merged.shape[1], TOKENS)
    assert set(source.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(source.sum(dim=1), torch.ones(2, TOKENS))


def test_class_token_is_alone_in_the_first_merged_token() -> None:
    _, source = tomeformer([8, 4]).forward_with_source(tokens())
    assert torch.equal(source[:, 0], torch.eye(TOKENS)[:1].expand(2, -1))


def test_following_the_sources_changes_no_bit_of_the_tokens() -> None:
    connector = tomeformer()
    assert torch.equal(connector.forward_with_source(tokens())[0], connector(tokens()))


def test_size_weighted_reduction_differs_from_the_mean() -> None:
    mean, weighted = (tomeformer([8, 4], reduction=reduction)(tokens()) for reduction in ("mean", "size_weighted"))
    assert mean.shape == weighted.shape
    assert not torch.allclose(mean, weighted, atol=1e-3)


def test_size_weighted_equals_mean_where_one_layer_makes_pairs() -> None:
    # A single pair is averaged alike by both; sizes differ only from the next merge on.
    mean, weighted = (tomeformer([1, 0], reduction=reduction)(tokens()) for reduction in ("mean", "size_weighted"))
    torch.testing.assert_close(mean, weighted)


def test_gradients_reach_every_weight_that_can_matter() -> None:
    connector = tomeformer().train()
    connector(tokens()).square().sum().backward()
    without = {name for name, weight in connector.named_parameters() if weight.grad is None or not weight.grad.any()}
    assert without == set()


def test_positions_beyond_the_tokens_are_not_used() -> None:
    connector = tomeformer()
    connector(tokens()).square().sum().backward()
    gradient = connector.embeddings.position_embeddings.weight.grad
    assert gradient is not None
    assert gradient[:TOKENS].any(dim=1).all()
    assert not gradient[TOKENS:].any()


def test_more_tokens_than_positions_is_a_user_error() -> None:
    with pytest.raises(UserError, match=r"21 tokens .* 20 positions"):
        tomeformer()(tokens(count=21))


@pytest.mark.parametrize("reduction", ["mean", "size_weighted"])
def test_bfloat16_autocast_keeps_the_number_of_tokens(reduction: str) -> None:
    connector = tomeformer(reduction=reduction)
    with torch.autocast("cpu", torch.bfloat16):
        merged = connector(tokens())
    assert merged.shape == (2, TOKENS - 6, HIDDEN)
    assert merged.isfinite().all()


def save_bert(directory: Path, model_class: type = BertModel, **changes: object) -> BertModel:
    bert = fill(model_class(bert_config(**changes)))
    bert.save_pretrained(directory)  # type: ignore[operator]
    return bert  # type: ignore[return-value]


def test_bert_checkpoint_initialises_the_connector(tmp_path: Path) -> None:
    bert = save_bert(tmp_path).eval()
    connector = TomeFormerEncoder(bert_config(), merge_r=0).eval()
    copy_bert_weights(connector.state_dict(), str(tmp_path))
    assert torch.equal(connector(tokens()), bert(inputs_embeds=tokens()).last_hidden_state)


def test_bert_checkpoint_with_a_language_head_initialises_the_connector(tmp_path: Path) -> None:
    theirs = save_bert(tmp_path, BertForMaskedLM).state_dict()
    connector = TomeFormerEncoder(bert_config(), merge_r=3)
    copy_bert_weights(connector.state_dict(), str(tmp_path))
    for name, weight in connector.state_dict().items():
        assert torch.equal(weight, theirs[f"bert.{name}"]), name


def test_shallow_connector_takes_the_first_layers(tmp_path: Path) -> None:
    theirs = save_bert(tmp_path, num_hidden_layers=4).state_dict()
    connector = TomeFormerEncoder(bert_config(num_hidden_layers=2), merge_r=3)
    copy_bert_weights(connector.state_dict(), str(tmp_path))
    for name, weight in connector.state_dict().items():
        assert torch.equal(weight, theirs[name]), name


def test_bert_of_other_sizes_is_a_user_error_that_lists_all_of_them(tmp_path: Path) -> None:
    save_bert(tmp_path, intermediate_size=60, max_position_embeddings=18, num_hidden_layers=1)
    with pytest.raises(UserError) as caught:
        copy_bert_weights(TomeFormerEncoder(bert_config(), merge_r=3).state_dict(), str(tmp_path))
    message = str(caught.value)
    assert str(tmp_path) in message
    assert "embeddings.position_embeddings.weight: (20, 40) here, (18, 40) there" in message
    assert "encoder.layer.0.intermediate.dense.weight: (80, 40) here, (60, 40) there" in message
    assert "encoder.layer.1.output.dense.bias: (40,) here, missing there" in message


def test_failed_initialisation_leaves_the_connector_as_it_was(tmp_path: Path) -> None:
    save_bert(tmp_path, intermediate_size=60)
    connector = tomeformer()
    before = connector(tokens())
    with pytest.raises(UserError):
        copy_bert_weights(connector.state_dict(), str(tmp_path))
    assert torch.equal(connector(tokens()), before)


def test_checkpoint_that_lacks_weights_of_its_own_configuration_is_a_user_error(tmp_path: Path) -> None:
    bert = save_bert(tmp_path)
    state = {name: weight for name, weight in bert.state_dict().items() if "layer.1.output" not in name}
    bert.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(UserError, match=r"encoder\.layer\.1\.output\.dense\.weight"):
        copy_bert_weights(TomeFormerEncoder(bert_config(), merge_r=3).state_dict(), str(tmp_path))


def test_checkpoint_of_another_model_is_a_user_error(towers) -> None:
    with pytest.raises(UserError, match=r"does not fit|No BERT checkpoint"):
        copy_bert_weights(TomeFormerEncoder(bert_config(), merge_r=3).state_dict(), str(towers.language))


def test_folder_without_a_bert_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No BERT checkpoint could be read from the folder"):
        copy_bert_weights(tomeformer().state_dict(), str(tmp_path))


@pytest.mark.parametrize("merge_to", [5, 7, 12, 17])
def test_as_many_tokens_are_left_as_asked_and_a_checkpoint_knows(
    make_model: MakeModel, merge_to: int, tmp_path: Path
) -> None:
    model = make_model(merge_r=None, merge_to=merge_to)
    assert model.encode(pixels(1, 1)).shape[1] == merge_to
    model.save_pretrained(tmp_path)
    loaded = EvlVideoForCaptioning.from_pretrained(tmp_path)
    assert loaded.connector.bert.schedule == model.connector.bert.schedule
    assert torch.equal(loaded.encode(pixels(1, 1)), model.encode(pixels(1, 1)))


def test_tokens_of_a_tower_without_a_class_token_can_all_be_merged(make_model: MakeModel) -> None:
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 4}
    bare = {"vision_overrides": {**sizes, "class_token": False, "global_pool": "avg"}, "vision_weights": "timm"}
    with torch.device("meta"):
        model = EvlVideoForCaptioning(make_model(merge_r=None, merge_to=5).config.changed(**bare, merge_to=4))
    assert model.connector.bert.schedule == [8, 4]
    with torch.device("meta"), pytest.raises(UserError, match="merge_to is 3; allowed: 4 to 16"):
        EvlVideoForCaptioning(model.config.changed(merge_to=3))
