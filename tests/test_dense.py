"""Dense retrieval with a small random BERT."""

from __future__ import annotations

import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from sentence_transformers import SentenceTransformer
from transformers import AutoTokenizer, BertConfig, BertModel, RobertaConfig, RobertaModel

from lamp_exp.errors import InputError
from lamp_exp.experiment.experiment import flatten
from lamp_exp.retrievers.dense import Dense, by_length, inner_products
from lamp_exp.values import Document, Query
from tests.conftest import TINY, compose

TEXTS = ["one two three", "a", "the cat", "a much longer text " * 6, "dog", "b c", "x y z", "end"]


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder as facebook/contriever is one: a plain BERT and a tokenizer."""
    folder = tmp_path_factory.mktemp("bert")
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.5,
    )
    BertModel(config).save_pretrained(folder)
    return str(folder)


def dense_folder(option: str, encoder: str) -> list[str]:
    """The overrides by which a retriever's encoders are the small random one."""
    options = OmegaConf.to_container(compose(f"retriever={option}")[0].retriever)
    names = [name for name, _ in flatten(options) if name.rpartition(".")[2] == "name"]
    return [f"retriever.{name}={encoder}" for name in names]


def dense(encoder: str, **options) -> Dense:
    return Dense(encoder, device="cpu", **options)


def documents(*texts: str) -> list[Document]:
    return [Document(str(n), text) for n, text in enumerate(texts)]


def test_a_plain_bert_is_the_mean_of_its_real_tokens_not_normalised(encoder):
    vectors = dense(encoder)._encode(["the cat", "dog"], [3, 2])
    tokenizer, bert = AutoTokenizer.from_pretrained(encoder), BertModel.from_pretrained(encoder)
    with torch.no_grad():
        states = bert(**tokenizer("the cat", return_tensors="pt")).last_hidden_state
    assert vectors[0] == pytest.approx(states[0].mean(0).numpy(), rel=2**-10, abs=1e-5)


def test_batch_size_changes_no_ranking(encoder):
    runs = []
    for size in (1, 20, 800):
        retriever = dense(encoder, batch_tokens=size)
        runs.append(retriever._encode(TEXTS, list(map(len, retriever._tokens(TEXTS)))))
        hits = retriever.rank(Query("q", "the dog"), documents(*TEXTS))
        runs[-1] = (runs[-1], [hit.id for hit in hits])
    for vectors, order in runs[1:]:
        assert vectors == pytest.approx(runs[0][0], rel=2**-10, abs=1e-5)
        assert order == runs[0][1]


@pytest.mark.parametrize("budget", [1, 10, 64, 1000])
def test_batches_hold_each_text_once_within_the_budget(budget):
    lengths = [5, 900, 1, 7, 7, 0, 64, 3, 12, 30, 2]
    batches = by_length(lengths, 64, budget)
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(min(lengths[place], 64) for place in batch)
        assert len(batch) == 1 or longest * len(batch) <= budget
    ordered = [lengths[place] for batch in batches for place in batch]
    assert ordered == sorted(lengths, reverse=True)


def test_vectors_belong_to_their_texts_whatever_their_batch(encoder):
    retriever = dense(encoder, batch_tokens=9)
    together = retriever._encode(TEXTS, list(map(len, retriever._tokens(TEXTS))))
    alone = np.concatenate([retriever._encode([text], [1]) for text in TEXTS])
    assert together == pytest.approx(alone, rel=2**-9, abs=1e-4)


def test_equal_texts_tie_and_keep_the_profiles_order(encoder):
    profile = documents(*["the same text"] * 20)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        hits = dense(encoder, batch_tokens=30).rank(Query("q", "text"), profile)
        assert [hit.id for hit in hits] == [document.id for document in profile]


def test_scores_are_inner_products_in_the_rows_order():
    rng = np.random.default_rng(0)
    query, rows = rng.normal(size=16).astype("f4"), rng.normal(size=(50, 16)).astype("f4")
    assert inner_products(query, rows) == pytest.approx(list(rows @ query), abs=1e-5)


@pytest.mark.parametrize("change", [np.asfortranarray, lambda rows: rows[::1].copy(), np.float64])
def test_layout_and_precision_of_the_vectors_do_not_matter(change):
    rng = np.random.default_rng(0)
    query, rows = rng.normal(size=16).astype("f4"), rng.normal(size=(9, 16)).astype("f4")
    rows.setflags(write=False)
    before = rows.copy()
    changed = inner_products(query, np.asarray(change(rows), dtype=np.float32))
    assert changed == inner_products(query, rows)
    assert (rows == before).all()


def test_a_vector_with_nan_comes_last():
    rows = np.array([[np.nan, 1], [1, 0], [0, 1]], dtype="f4")
    scores = inner_products(np.array([1, 0.5], dtype="f4"), rows)
    assert np.argsort(scores).tolist() == [0, 2, 1]


def test_texts_too_long_for_the_encoder_are_counted(encoder):
    retriever = dense(encoder, max_length=8)
    retriever.rank(Query("q", "dog"), documents("the " * 20, "the", "the " * 7))
    assert retriever.take_counts()["texts_cut"] == 1
    assert retriever.facts()["cut_at_tokens"] == 8


def test_unknown_tokens_of_what_is_read_are_counted_and_a_warning(encoder, lamp_exp, data_dir):
    retriever = dense(encoder, max_length=4)
    retriever.rank(Query("q", "😀"), documents("the 😀 the", "the " * 5 + "😀"))
    counts = retriever.take_counts()
    assert counts["unknown_tokens"] == 2  # the third is cut off
    assert counts["tokens_read"] > 6
    words = ["task=lamp4", "mode=rank", "retriever=rrf", *dense_folder("rrf", encoder)]
    remark = "unknown tokens in texts that the encoder reads: is it the right tokenizer"
    code, out, _ = lamp_exp(*words, "limit=3")
    assert (code, remark in out) == (0, False)
    item = {"id": "i", "text": "😀 " * 20, "title": "😀"}
    input = "Generate a headline for the following article: 😀"
    place = data_dir("LaMP_4", "dev", [{"id": "1", "input": input, "profile": [item]}])
    code, out, _ = lamp_exp(*words, f"data_dir={place}")
    assert code == 0
    assert remark in out


def test_a_run_without_a_profile_loads_no_encoder():
    assert Dense("no/encoder").facts() == {}


def test_each_distinct_text_is_encoded_once(encoder):
    retriever = dense(encoder)
    profile = documents("a", "b", "a")
    list(retriever.rank_batch([(Query("1", "a"), profile), (Query("2", "c"), profile)]))
    assert retriever.facts()["texts_encoded"] == 3


def test_normalising_does_not_change_what_comes_after(encoder):
    profile = documents(*TEXTS)
    fresh = dense(encoder).rank(Query("q", "cat"), profile)
    dense(encoder, normalize=True).rank(Query("q", "cat"), profile)
    assert dense(encoder).rank(Query("q", "cat"), profile) == fresh


def test_a_name_that_is_no_encoder_is_one_clear_error(tmp_path: Path):
    with pytest.raises(InputError, match=r"retriever\.name=.*nothing"):
        dense(str(tmp_path / "nothing")).validate()


def changed(encoder: str, folder: Path, **config: int) -> Path:
    """A copy of the encoder, with random weights of another configuration if that is given."""
    shutil.copytree(encoder, folder)
    if config:
        whole = BertConfig.from_pretrained(encoder, **config)
        BertModel(whole).save_pretrained(folder)
    return folder


def test_more_tokens_than_the_encoder_has_positions_for_are_refused(encoder, tmp_path: Path):
    folder = changed(encoder, tmp_path / "short", max_position_embeddings=16)
    with pytest.raises(
        InputError, match=r"retriever\.max_length=512: .*short reads at most 16 tok"
    ):
        dense(str(folder)).validate()
    retriever = dense(str(folder), max_length=16)
    retriever.rank(Query("q", "the " * 40), documents("the " * 20, "the"))
    assert retriever.take_counts()["texts_cut"] == 2


def test_positions_that_are_counted_from_the_paddings_on_are_fewer(tmp_path: Path):
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    tokenizer.save_pretrained(tmp_path)
    sizes = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
    RobertaModel(
        RobertaConfig(
            vocab_size=len(tokenizer), num_hidden_layers=1, max_position_embeddings=18,
            pad_token_id=1, **sizes,
        )
    ).save_pretrained(tmp_path)  # fmt: skip
    with pytest.raises(InputError, match="at most 16 tokens"):
        dense(str(tmp_path), max_length=17).validate()
    dense(str(tmp_path), max_length=16).rank(Query("q", "the " * 40), documents("a"))


def test_an_encoder_without_its_tokenizer_or_with_anothers_is_refused(encoder, tmp_path: Path):
    folder = changed(encoder, tmp_path / "other", vocab_size=100)
    with pytest.raises(InputError, match="its tokenizer has 507 tokens, but its weights only 100"):
        dense(str(folder)).validate()
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(InputError, match="it has weights, but no tokenizer's files"):
        dense(str(folder)).validate()


def test_a_sentence_transformers_folder_brings_its_own_pooling(encoder, tmp_path: Path):
    SentenceTransformer(encoder, device="cpu").save(str(tmp_path / "st"))
    mine = dense(str(tmp_path / "st"))._encode(["the cat"], [3])
    assert mine == pytest.approx(dense(encoder)._encode(["the cat"], [3]), abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("order", ["faiss, torch", "torch, faiss"])
def test_faiss_and_torch_share_a_process_in_either_order(order):
    code = f"import {order}; from lamp_exp.retrievers.dense import inner_products; import numpy; "
    code += "torch.ones(9, 9) @ torch.ones(9, 9); a = numpy.ones((2, 4), 'f4'); "
    code += "print(inner_products(a[0], a))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines()[-1] == "[4.0, 4.0]"


def test_an_encoder_that_normalizes_by_itself_cannot_be_told_not_to(encoder, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 6 has another place for it
        from sentence_transformers.models import Normalize
    made = SentenceTransformer(encoder, device="cpu")
    made.append(Normalize())
    made.save(str(tmp_path))
    with pytest.raises(InputError, match="retriever.normalize=false: .* normalizes its vectors"):
        dense(str(tmp_path)).validate()
    dense(str(tmp_path), normalize=True).validate()
    dense(encoder).validate()
