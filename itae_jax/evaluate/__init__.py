"""From errors to scores (Eq. 3 and 4 of the paper), and the measures of scores."""

from itae_jax.evaluate.metrics import auroc, frame_normality
from itae_jax.evaluate.restoration import anomaly_scores, restoration_errors

__all__ = ["anomaly_scores", "auroc", "frame_normality", "restoration_errors"]
