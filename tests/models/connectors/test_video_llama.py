"""Video-LLaMA's two Q-Formers, and the places of frames between them."""

import pytest
import torch
from tiny_connectors import BERT, NUM_TOKENS, TOWER, VISION_DIM
from tiny_models import chirp, fill, shuffled

from evlvideo.errors import UserError
from evlvideo.models.connectors.video_llama import VideoLlama, VideoLlamaOptions


@pytest.fixture
def connector() -> VideoLlama:
    options = VideoLlamaOptions(num_queries=5, video_queries=4)
    return fill(VideoLlama(BERT, TOWER, options, max_frames=6)).eval()


def test_video_qformer_reads_what_the_image_qformer_saw_of_each_frame_and_its_place(connector: VideoLlama) -> None:
    x = chirp(2, 3, NUM_TOKENS, VISION_DIM)
    queries = connector.image_queries.expand(2, -1, -1)
    seen = [
        connector.image_qformer(queries, encoder_hidden_states=x[:, frame]).last_hidden_state
        + connector.frame_positions[frame]
        for frame in range(3)
    ]
    expected = connector.video_qformer(
        connector.video_queries.expand(2, -1, -1), encoder_hidden_states=torch.cat(seen, dim=1)
    ).last_hidden_state
    torch.testing.assert_close(connector(x), expected.unsqueeze(1))


def test_every_video_layer_looks_at_the_frames_and_every_second_image_layer_at_the_image(connector: VideoLlama) -> None:
    looks = [[hasattr(layer, "crossattention") for layer in qformer.encoder.layer] for qformer in connector.children()]
    assert looks == [[True, False], [True, True]]


def test_order_of_the_frames_counts_by_their_positions_alone(connector: VideoLlama) -> None:
    x = chirp(1, 4, NUM_TOKENS, VISION_DIM)
    assert not torch.allclose(connector(shuffled(x)), connector(x), atol=1e-3)
    torch.nn.init.zeros_(connector.frame_positions)
    torch.testing.assert_close(connector(shuffled(x)), connector(x), atol=1e-5, rtol=1e-5)


def test_more_frames_than_positions_are_a_user_error(connector: VideoLlama) -> None:
    assert connector(torch.zeros(1, 6, NUM_TOKENS, VISION_DIM)).shape == (1, 1, 4, 40)
    with pytest.raises(UserError, match=r"7 frames and the connector positions for 6; .* larger max_frames"):
        connector(torch.zeros(1, 7, NUM_TOKENS, VISION_DIM))
