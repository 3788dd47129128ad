"""Rewards of self-critical sequence training: captions in, one number each out."""

from collections.abc import Iterable, Mapping, Sequence

from evlvideo.evaluation.cider import CiderD
from evlvideo.evaluation.light_tokenizer import light_tokenize
from evlvideo.evaluation.tokenization import clean, tokenize, tokenize_lines


class CiderReward:
    """CIDEr-D against all references of the clip (Rennie et al., CVPR 2017).

    Built once from the training split; a call starts no Java and reads no reference text. Captions and references are
    tokenised by the `python` tokeniser alike. A caption's reward depends on nothing else in the batch.

    Args:
        references: the captions of every clip, as people wrote them.
        document_references: the captions of each clip that document frequencies are counted over; those of
            `references` where nothing is given.
        end_of_text: count the end of a caption as a word, in references, frequencies, and captions that ended. Without
            it, a caption whose end is dropped loses nothing, and models learn to drop it.
    """

    def __init__(
        self,
        references: Mapping[str, Sequence[str]],
        document_references: Iterable[Sequence[str]] | None = None,
        end_of_text: bool = True,
    ) -> None:
        documents = None
        if document_references is not None:
            documents = (tokenize_lines(captions, "python") for captions in document_references)
        self._scorer = CiderD(tokenize(references, "python"), documents, end_of_text=end_of_text)

    def __call__(self, captions: Sequence[str], clip_ids: Sequence[str], ended: Sequence[bool]) -> list[float]:
        """Score captions, each against the references of its clip.

        Args:
            captions: (batch) generated captions, as text.
            clip_ids: (batch) the clip of each.
            ended: (batch) whether each ended with the end-of-text token, rather than being cut off.

        Returns:
            (batch) CIDEr-D, between 0 and 10; 1 is what papers print as 100.

        Raises:
            UserError: a clip has no references.
        """
        words = [light_tokenize(caption if caption.isprintable() else clean(caption)) for caption in captions]
        return self._scorer.score_all(words, clip_ids, ended).tolist()
