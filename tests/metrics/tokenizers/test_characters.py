import pytest

from evlvideo.metrics.tokenizers.characters import characters_tokenize, count_unsplit

WORDS = {
    "一个男人在弹吉他。": "一 个 男 人 在 弹 吉 他",
    "男の人が、ギターを弾く\uff01": "男 の 人 が ギ タ ー を 弾 く",
    "ｷﾞﾀｰ": "ギ タ ー",
    "กำลังเล่น": "กำ ลั ง เ ล่ น",
    "人々は\u3007を": "人 々 は \u3007 を",
    "他有3.5个iPhone\uff0c\uff21型": "他 有 3 5 个 iphone a 型",
    "A man's café": "a man s café",
    "लड़का दौड़ रहा है": "लड़का दौड़ रहा है",
    "한국어 문장": "한국어 문장",
    "𠮷野家": "𠮷 野 家",
    "…!? 🎸": "",
}


@pytest.mark.parametrize("caption", WORDS)
def test_each_character_of_a_script_without_spaces_is_a_word(caption: str) -> None:
    assert characters_tokenize(caption) == WORDS[caption]


def test_unicode_forms_are_one() -> None:
    assert characters_tokenize("か\u3099") == characters_tokenize("が")


@pytest.mark.parametrize(
    ("captions", "count"),
    [
        (["一个男人在弹吉他", "a man plays"], 1),
        (["狗在跑", "猫在睡觉"], 2),
        (["ผู้ชายคนหนึ่งกำลังเล่นกีตาร์"], 1),
        (["一 个 男人 在 弹 吉他", "狗 在 草地 上 奔跑"], 0),
        (["ผู้ชาย คน หนึ่ง กำลัง เล่น กีตาร์"], 0),
        (["남자가 기타를 친다", "un café à Zürich", "мужчина играет"], 0),
        ([], 0),
    ],
)
def test_captions_that_are_not_split_into_words_are_counted(captions: list[str], count: int) -> None:
    assert count_unsplit(captions) == count
