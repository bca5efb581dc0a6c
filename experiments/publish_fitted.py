"""What `itae fit` and `itae score` made of a labelled folder, as a row of results."""

import json
from pathlib import Path

import numpy as np

from itae_jax import config
from itae_jax.detection import model as trained
from itae_jax.errors import RequestError
from itae_jax.evaluate import metrics as measures
from itae_jax.report import score_measures
from itae_jax.report import score_page as score_report
from itae_jax.runs.results import COLUMNS


def row(model_directory: Path, scores_file: Path, name: str) -> dict[str, str]:
    """The row of a model and of scores.csv, whose images lie in folders by kind, one of them `good`."""
    model = trained.load(model_directory)
    record = json.loads((model_directory / "config.json").read_text(encoding="utf-8"))
    scored = score_report.read_scores(scores_file)
    labels, why = score_measures.labels_of(scored.paths)
    if labels is None:
        raise RequestError(f"{scores_file}: {why}")
    measured = score_measures.of_images(np.array(labels), scored.scores_N, scored.is_anomaly_N)
    is_defect_N = np.array([not score_measures.is_normal(label) for label in labels])
    of_pixels = score_measures.of_pixels(model, scored.paths, is_defect_N) or {}
    experiment, fitted = model.experiment, model.fitted
    found = {
        "experiment": "fit",
        "dataset": name,
        "method": experiment.method,
        "normal_class": 0,
        "normal_class_name": name,
        "seed": experiment.seed,
        "epochs": experiment.train.epochs,
        "auroc": f"{measured['auroc']:.6f}",
        "num_train": fitted.num_train,
        "num_test": len(scored.paths),
        "train_seconds": f"{fitted.train_seconds:.2f}",
        "device": record["environment"]["device"],
        "dtype": experiment.compute.dtype,
        "width": experiment.model.width,
        "transform": experiment.transform.name,
        "normal_label": "good",
        "settings": config.settings(experiment),
        "data_copy": f"folder {name}: {fitted.num_train} normal images trained on",
        "commit": record["environment"]["commit"],
        "average_precision": f"{measured['ap']:.6f}",
        "best_f1": f"{measured['f1']:.6f}",
        "num_anomalous": int(is_defect_N.sum()),
        **{column: f"{of_pixels[column]:.6f}" for column in measures.PIXEL_COLUMNS if column in of_pixels},
    }
    return {column: str(found.get(column, "")) for column in COLUMNS}
