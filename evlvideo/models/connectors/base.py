"""What a connector is."""

from torch import Tensor, nn


class Connector(nn.Module):
    """From what a tower makes of frames to what the language projection takes.

    Notation of all connectors: `B` clips, `T` frames, `N` tokens of a frame (class token and patches), `D` channels of
    the tower, `M` tokens out, `H` channels out, `Q` queries.
    """

    output_dim: int
    """Channels `H` of a token that comes out."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalised vision tokens `(B, T, N, D)` → hidden tokens.

        Returns:
            `(B, T, M, H)` where frames are taken one by one, `(B, 1, M, H)` where all are taken together.
        """
        raise NotImplementedError

    def num_output_tokens(self, num_tokens: int) -> int:
        """`M` for `N = num_tokens`."""
        raise NotImplementedError

    def train(self, mode: bool = True) -> "Connector":
        """Set the mode; parts that are frozen stay in eval mode, without dropout."""
        super().train(mode)
        for part in self.children():
            weights = list(part.parameters())
            if weights and not any(weight.requires_grad for weight in weights):
                part.train(False)
        return self
