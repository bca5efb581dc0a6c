"""Rows of results.csv as typed values, and what is refused on reading them."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_report import make_result

from itae_jax import files
from itae_jax.errors import RequestError
from itae_jax.runs import directory, results
from itae_jax.runs.results import Result
from itae_jax.training.log import MetricsLog, read_metrics

DOCUMENTED = "experiment,dataset,method,normal_class,normal_class_name,seed,epochs,auroc,num_train,num_test,"
DOCUMENTED += "train_seconds,score_seconds,device"
FRACTIONS = st.floats(0, 1).map(lambda value: round(value, 6))
SECONDS = st.floats(0, 1e6).map(lambda value: round(value, 3))
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
COUNTS = st.integers(0, 10**9)
OF_FIELD = {
    "train_seconds": st.none() | SECONDS,
    "score_seconds": st.none() | SECONDS,
    "score_memory_mib": st.none() | SECONDS,
    "coverage": st.sampled_from(["complete", "partial", "other", "own"]),
    "further_aurocs": st.dictionaries(st.sampled_from(["l1", "l2", "x"]), FRACTIONS),
    "num_test": st.integers(9, 10**9),
    "num_videos": st.none() | st.integers(1, 99),
    "num_anomalous": st.none() | st.integers(1, 9),
    **{measure: st.none() | FRACTIONS for measure in results.MEASURES[1:]},
}


@st.composite
def results_of(draw):
    values = {
        field.name: draw(OF_FIELD.get(field.name, COUNTS if field.type is int else TEXTS))
        for field in dataclasses.fields(Result)
        if field.name not in ("auroc", "status")
    }
    auroc = draw(st.none() | FRACTIONS)
    status = "done" if auroc is not None else draw(st.sampled_from(["undefined", "failed"]))
    return Result(**values, auroc=auroc, status=status)


def result(seed=0, **values):
    return make_result(6, seed, num_test=60, num_anomalous=50, **values)


def test_columns_begin_with_the_documented_ones():
    assert ",".join(results.COLUMNS).startswith(DOCUMENTED)


@settings(deadline=None)
@given(st.lists(results_of(), max_size=4, unique_by=lambda one: one.job))
def test_results_come_back_from_their_file(tmp_path_factory, written):
    path = tmp_path_factory.mktemp("results") / "results.csv"
    results.write(path, written)
    assert list(results.read(path).values()) == written
    for one in written:
        assert one.value("auroc") == one.auroc and one.value("auroc_l1") == one.further_aurocs.get("l1")


def test_adding_a_result_keeps_the_others_and_their_columns(tmp_path):
    path = tmp_path / "results.csv"
    assert results.read(path) == {}
    added = [result(0, further_aurocs={"l1": 0.5}), result(1, further_aurocs={"l2": 0.25}), result(2)]
    for one in added:
        results.add(path, one)
    assert results.read(path) == {(6, seed): added[seed] for seed in range(3)}


@pytest.mark.parametrize(
    ("column", "text"),
    [("auroc", "high"), ("auroc_l1", "inf"), ("seed", "9" * 30), ("coverage", "most"), ("num_anomalous", "61")],
)
def test_impossible_cell_is_refused_with_its_column_and_the_file_is_kept(tmp_path, column, text):
    path = tmp_path / "results.csv"
    results.write(path, [result(further_aurocs={"l1": 0.5})])
    (row,) = files.read_csv(path)
    files.write_csv(path, [row | {column: text}])
    before = path.read_bytes()
    for use in (results.read, lambda path: results.add(path, result(seed=2))):
        with pytest.raises(RequestError, match=rf"results\.csv: is damaged \(row 1: .*{column}"):
            use(path)
    assert path.read_bytes() == before


def test_names_of_any_bytes_survive(tmp_path):
    path = tmp_path / "results.csv"
    odd = result(normal_class_name=b'caf\xe9,"'.decode("utf-8", "surrogateescape"))
    results.write(path, [odd])
    assert results.read(path) == {odd.job: odd}


def test_metrics_of_an_interrupted_training_are_replaced_from_where_it_resumes(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for seed, epochs in ((0, (1, 2)), (1, (1, 2, 3))):
        metrics = MetricsLog(path, {"seed": seed})
        for epoch in epochs:
            metrics.add({"epoch": epoch, "loss": 0.5})
    with path.open("a") as file:  # as a kill and a hand leave it
        file.write('{"seed": 1, "ep\n[]\n{"epoch": "3"}\n{"epoch": -1}\n')
    metrics = MetricsLog(path, {"seed": 1})
    metrics.add({"epoch": 2, "loss": 0.25})
    found = [(entry["seed"], entry["epoch"], entry["loss"]) for entry in read_metrics(path)]
    assert found == [(0, 1, 0.5), (0, 2, 0.5), (1, 1, 0.5), (1, 2, 0.25)]


def test_a_directory_of_runs_stands_for_all_of_them(tmp_path):
    for name in ("b", "a", "empty"):
        (tmp_path / name).mkdir()
    for name in ("b", "a"):
        (tmp_path / name / "results.csv").touch()
    assert directory.expand(tmp_path) == [tmp_path / "a", tmp_path / "b"]
    (tmp_path / "variants.json").write_text('["b", "not yet"]')
    assert directory.expand(tmp_path) == [tmp_path / "b", tmp_path / "a"]
    assert directory.unfinished(tmp_path) == ["not yet"]
    assert directory.expand(tmp_path / "a") == [tmp_path / "a"]
    assert directory.expand(tmp_path / "nowhere") == [tmp_path / "nowhere"]
    for text in ('{"a": 1}', "[1]", "[", "\xff"):
        (tmp_path / "variants.json").write_bytes(text.encode("latin-1"))
        with pytest.raises(RequestError, match=r"variants\.json: is damaged"):
            directory.expand(tmp_path)
