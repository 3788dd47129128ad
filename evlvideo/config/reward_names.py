"""The reward of a run as its config names it: one name, or a sum of names with weights."""

import math
import re

from evlvideo.errors import UserError

REWARDS = ("cider_d", "bleu_4", "rouge_l")
"""Names of the rewards that are ours; `module:function` names one of the user's own."""

_FORM = (
    f"it must be one of {', '.join(REWARDS)}, a function of your own as module:function, or a weighted sum of these, "
    'such as "cider_d + 0.5 * bleu_4"'
)
_TERM = re.compile(r"(?:(?P<weight>[^*\s]+)\s*\*\s*)?(?P<name>[^*\s]+)")
_OWN = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def parse_reward(text: str) -> dict[str, float]:
    """Return name → weight.

    Raises:
        UserError: it is no such sum, names a reward twice, or a weight is not a finite number other than 0.
    """
    weights: dict[str, float] = {}
    # A plus sign inside a number, as in 1e+2, has no white space around it.
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
            raise UserError(f"The reward {text!r} names {name} twice; add the weights up.")
        weights[name] = weight
    return weights


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
