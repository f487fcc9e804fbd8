from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from sluice.gateway.inputs.text.tokenizer import load_tokenizer
from sluice.inference.errors import InvalidRequest, RepositoryError, StartError
from tests.texts import WORDS, word_tokenizer, write_tokenizer


def test_ids_are_the_librarys_own_special_tokens_included(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write_tokenizer(tmp_path), None)
    texts = ["to be", "or not to be", "something else", WORDS]
    assert tokenizer.tokenise(texts) == [word_tokenizer().encode(text).ids for text in texts]
    assert tokenizer.tokenise(["to be"]) == [[1, 3, 4, 2]]
    assert tokenizer.vocabulary == 3 + len(WORDS.split())


def test_what_is_cut_keeps_its_special_tokens(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write_tokenizer(tmp_path), 4)
    assert tokenizer.tokenise(["to be or not", "to"]) == [[1, 3, 4, 2], [1, 3, 2]]


def test_padding_and_truncation_of_the_file_are_set_aside(tmp_path: Path) -> None:
    padded = word_tokenizer()
    padded.enable_padding(length=16)
    padded.enable_truncation(3)
    padded.save(str(tmp_path / "padded.json"))
    assert load_tokenizer(tmp_path / "padded.json", None).tokenise(["to be"]) == [[1, 3, 4, 2]]


def test_a_word_that_no_token_stands_for_is_the_callers_fault(tmp_path: Path) -> None:
    Tokenizer(WordLevel({"a": 0}, unk_token="[UNK]")).save(str(tmp_path / "strict.json"))
    tokenizer = load_tokenizer(tmp_path / "strict.json", None)
    with pytest.raises(InvalidRequest, match="does not take the input"):
        tokenizer.tokenise(["b"])


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"model": {"type": "Nonsense"}}'])
def test_a_file_that_is_no_tokenizer_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text(content)
    with pytest.raises(RepositoryError, match=r"tokenizer\.json holds no tokenizer"):
        load_tokenizer(file, None)


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(StartError, match=r"install the extra sluice-gateway\[text\]"):
        load_tokenizer(tmp_path / "tokenizer.json", None)
