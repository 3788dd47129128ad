"""The reward that a config names: one name, or a weighted sum of names."""

import math
import re

from evlvideo.errors import UserError

REWARDS = ("cider_d", "bleu_4", "rouge_l")
"""Built-in rewards; `module:function` names the user's own."""

_FORM = (
    f"it must be one of {', '.join(REWARDS)}, a function of your own as module:function, or a weighted sum of these, "
    'such as "cider_d + 0.5 * bleu_4"'
)
_TERM = re.compile(r"(?:(?P<weight>[^*\s]+)\s*\*\s*)?(?P<name>[^*\s]+)")
_OWN = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def parse_reward(text: str) -> dict[str, float]:
    """Parse a reward into name → weight.

    Raises:
        UserError: the text is no such sum, names a reward twice, or has a weight that is 0 or not finite.
    """
    weights: dict[str, float] = {}
    # A plus sign inside a number, as in 1e+2, is not surrounded by spaces.
    for term in re.split(r"\s+\+\s+", text.strip()):
        found = _TERM.fullmatch(term)
        if found is None:
            raise UserError(f"The reward is {text!r}; {_FORM}.")
        name, weight = found["name"], _number(found["weight"] or "1")
        if name not in REWARDS and not _OWN.fullmatch(name):
            raise UserError(f"The reward {name!r} is unknown; {_FORM}.")
        if not math.isfinite(weight) or weight == 0:
            raise UserError(f"The weight of the reward {name} is {found['weight']}; it must be a number other than 0.")
        if name in weights:
            raise UserError(f"The reward {text!r} names {name} twice; add up the weights.")
        weights[name] = weight
    return weights


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
