"""RALI's head: standardise, PCA, bucketed k-means, softmax over cosines to scored prototypes.

Source: *Reasoning as Representation*, section 4 (equations 1 to 3). The temperature and the
standardisation come from the authors' published inference code; the equations lack them.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_biqa.scoring.head_settings import HeadSettings
from lit_biqa.scoring.scale import HIGH, LOW, within_scale
from lit_biqa.types import InputError

_AT_ONCE = 1024  # prototypes compared at once with all training images


def bucket_counts(sizes: np.ndarray, total: int) -> np.ndarray:
    """Number of centroids k_n of each bucket: at least one in a filled bucket, the rest by load.

    The paper gives N and K but not k_n. Each further centroid goes to the bucket with the most
    members per centroid, never to a bucket with as many centroids as members.

    Args:
        sizes: number of members of each bucket ``[N]``.
        total: K, number of centroids over all buckets.

    Returns:
        Integers ``[N]`` that sum to ``total``.

    Raises:
        InputError: if K is below the number of filled buckets or above the number of members.
    """
    filled = int((sizes > 0).sum())
    if not filled <= total <= sizes.sum():
        raise InputError(
            f"{total} prototypes cannot be shared among {filled} filled score buckets with "
            f"{int(sizes.sum())} images: choose head.prototypes between these two, or lower "
            f"head.buckets."
        )
    counts: np.ndarray = (sizes > 0).astype(np.int64)
    for _ in range(total - filled):
        load = np.where(counts < sizes, sizes / np.maximum(counts, 1), -1.0)
        counts[load.argmax()] += 1
    return counts


def bucketed_kmeans(
    embeddings: np.ndarray, mos: np.ndarray, prototypes: int, buckets: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Centroids of embeddings clustered within score buckets, and the mean MOS of each.

    Args:
        embeddings: ``[L, M]``.
        mos: ``[L]`` on [1, 5].
        prototypes: K, number of centroids.
        buckets: N equal buckets on [1, 5]; 1 is plain k-means.
        seed: seed of k-means.

    Returns:
        Centroids ``[K, M]`` and scores ``[K]``, in order of buckets (equations 1 and 2).

    Raises:
        InputError: see `bucket_counts`.
    """
    place = np.clip(((mos - LOW) / (HIGH - LOW) * buckets).astype(int), 0, buckets - 1)
    shares = bucket_counts(np.bincount(place, minlength=buckets), prototypes)
    parts = [
        _kmeans(embeddings[place == n], mos[place == n], int(share), seed)
        for n, share in enumerate(shares)
        if share
    ]
    return np.concatenate([c for c, _ in parts]), np.concatenate([s for _, s in parts])


def _kmeans(
    embeddings: np.ndarray, mos: np.ndarray, clusters: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    if clusters == 1:
        return embeddings.mean(0, keepdims=True), mos.mean(keepdims=True)
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # Equal images give fewer distinct centroids than asked for; the surplus ones stay.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fit = KMeans(clusters, n_init=1, random_state=seed).fit(embeddings)
    members = np.bincount(fit.labels_, minlength=clusters)
    sums = np.bincount(fit.labels_, weights=mos, minlength=clusters)
    scores = np.where(members > 0, sums / np.maximum(members, 1), mos.mean())
    return fit.cluster_centers_, scores


def principal_axes(embeddings: np.ndarray, dims: int) -> np.ndarray:
    """First ``dims`` principal axes of centred embeddings ``[L, D]``, as ``[D, M]``.

    0 gives the identity, so that the head has one form with and without PCA.
    """
    if not dims:
        return np.eye(embeddings.shape[1])
    from sklearn.decomposition import PCA

    # PCA of the covariance is as exact here as an SVD and several times faster. "auto" may use the
    # randomised solver, which does not reproduce.
    return np.asarray(PCA(dims, svd_solver="covariance_eigh").fit(embeddings).components_.T)


def prototype_weights(points: Tensor, prototypes: Tensor, temperature: float) -> Tensor:
    """Weights of the prototypes in a score, ``[B, K]``: a softmax over cosines; rows sum to 1.

    Args:
        points: compressed embeddings ``[B, M]``.
        prototypes: ``[K, M]``.
        temperature: divisor of the cosines.
    """
    cosines = F.normalize(points, dim=1) @ F.normalize(prototypes, dim=1).T
    return (cosines / temperature).softmax(dim=1)


def nearest_points(prototypes: Tensor, points: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Points with the largest cosines to each prototype, the nearest first.

    Args:
        prototypes: ``[K, M]``.
        points: compressed embeddings ``[L, M]``.
        count: points of each prototype; all where there are fewer.

    Returns:
        Cosines and places among the points, ``[K, count]`` each.
    """
    points, prototypes = F.normalize(points, dim=1), F.normalize(prototypes, dim=1)
    count = min(count, len(points))
    parts = [(some @ points.T).topk(count) for some in torch.split(prototypes, _AT_ONCE)]
    return torch.cat([part.values for part in parts]), torch.cat([p.indices for p in parts])


def weighted_score(
    points: Tensor, prototypes: Tensor, scores: Tensor, temperature: float
) -> Tensor:
    """Equation 3: mean of prototype scores, weighted by a softmax over cosines.

    Args:
        points: compressed embeddings ``[B, M]``.
        prototypes: ``[K, M]``.
        scores: ``[K]``.
        temperature: divisor of the cosines.

    Returns:
        Scores ``[B]``.
    """
    return prototype_weights(points, prototypes, temperature) @ scores


class PrototypeHead(nn.Module):
    """Scores embeddings by their cosine to scored prototypes.

    All state is in buffers whose shapes are known before the fit, so that a checkpoint holds the
    head beside the encoder and the encoder's optimizer does not change it.

    Args:
        dim: dimensions D of the embedding.
        settings: settings of the head.
    """

    mean: Tensor
    axes: Tensor
    prototypes: Tensor
    scores: Tensor
    fitted: Tensor

    def __init__(self, dim: int, settings: HeadSettings) -> None:
        super().__init__()
        self.settings = settings
        dims = settings.pca or dim
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("axes", torch.zeros(dim, dims))
        self.register_buffer("prototypes", torch.zeros(settings.prototypes, dims))
        self.register_buffer("scores", torch.zeros(settings.prototypes))
        self.register_buffer("fitted", torch.tensor(False))

    def compress(self, embeddings: Tensor) -> Tensor:
        """Project embeddings on the principal axes: ``[B, D] -> [B, M]``, in the head's float32."""
        return (embeddings.to(self.mean.dtype) - self.mean) @ self.axes

    def weights(self, embeddings: Tensor) -> Tensor:
        """Weights ``[B, K]`` of the prototypes in the scores of embeddings ``[B, D]``."""
        with torch.autocast(embeddings.device.type, enabled=False):
            points = self.compress(embeddings)
            return prototype_weights(points, self.prototypes, self.settings.temperature)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Scores ``[B]`` of embeddings ``[B, D]``, within [1, 5].

        Fine-tuning fits `weighted_score` itself and can move prototype scores out of [1, 5]; see
        `within_scale`.

        Computed in float32 under autocast too: in bfloat16, scores between 2 and 4 are 1/64 apart.
        """
        with torch.autocast(embeddings.device.type, enabled=False):
            points = self.compress(embeddings)
            scores = weighted_score(points, self.prototypes, self.scores, self.settings.temperature)
            return within_scale(scores)

    @torch.no_grad()
    def fit(self, embeddings: Tensor, mos: Tensor) -> dict[str, float]:
        """Set the whole head from training embeddings.

        Args:
            embeddings: ``[L, D]``.
            mos: ``[L]`` on [1, 5].

        Returns:
            Values to log: root mean square error on the training set before and after fine-tuning,
            and the number of its steps.

        Raises:
            InputError: if the settings do not suit the number of embeddings.
        """
        self.settings.check(*embeddings.shape)
        values = embeddings.double().cpu().numpy()
        # A dimension that never varies carries no information; 1 keeps it at zero after centring.
        spread = values.std(0) if self.settings.standardize else np.ones(values.shape[1])
        spread[spread < 1e-12] = 1.0
        standard = (values - values.mean(0)) / spread
        axes = principal_axes(standard, self.settings.pca)
        centroids, scores = bucketed_kmeans(
            standard @ axes,
            mos.double().cpu().numpy(),
            self.settings.prototypes,
            self.settings.buckets,
            self.settings.seed,
        )
        # Dividing the axes by the spread saves one product per image.
        values_of = (values.mean(0), axes / spread[:, None], centroids, scores)
        targets = (self.mean, self.axes, self.prototypes, self.scores)
        for buffer, value in zip(targets, values_of, strict=True):
            buffer.copy_(torch.from_numpy(value))
        self.fitted.fill_(True)
        return self._finetune(embeddings.to(self.mean), mos.to(self.mean))

    def _finetune(self, embeddings: Tensor, mos: Tensor) -> dict[str, float]:
        points = self.compress(embeddings)
        report = {"rmse_before": self._rmse(points, mos), "steps": 0.0}
        if self.settings.finetune:
            self.prototypes, self.scores, steps = finetune(
                points, mos, self.prototypes, self.scores, self.settings
            )
            report["steps"] = float(steps)
        report["rmse_after"] = self._rmse(points, mos)
        return report

    def _rmse(self, points: Tensor, mos: Tensor) -> float:
        scores = weighted_score(points, self.prototypes, self.scores, self.settings.temperature)
        return F.mse_loss(scores, mos).sqrt().item()


@torch.enable_grad()
def finetune(
    points: Tensor, mos: Tensor, prototypes: Tensor, scores: Tensor, settings: HeadSettings
) -> tuple[Tensor, Tensor, int]:
    """Fit prototypes and scores to MOS by squared error, with early stopping on held-out samples.

    The paper gives only the learning rate; loss (MSE), optimizer (AdamW without decay), full
    batches and early stopping are ours.

    Args:
        points: compressed embeddings ``[L, M]``.
        mos: ``[L]``.
        prototypes: initial prototypes ``[K, M]``.
        scores: initial scores ``[K]``.
        settings: settings of the head.

    Returns:
        Prototypes and scores of the step with the lowest held-out error (step 0 included), and the
        number of that step.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    order = torch.randperm(len(points), generator=generator).to(points.device)
    held_count = max(1, round(settings.holdout * len(points)))
    held, training = ((points[rows], mos[rows]) for rows in order.tensor_split([held_count]))
    centres, values = (x.clone().requires_grad_() for x in (prototypes, scores))
    optimizer = torch.optim.AdamW([centres, values], lr=settings.lr, weight_decay=0.0)
    best, best_error, best_step = (prototypes, scores), float("inf"), 0

    def error(part: tuple[Tensor, Tensor]) -> Tensor:
        guess = weighted_score(part[0], centres, values, settings.temperature)
        return F.mse_loss(guess, part[1])

    for step in range(settings.steps + 1):
        with torch.no_grad():
            held_error = error(held).item()
        if held_error < best_error:
            best = (centres.detach().clone(), values.detach().clone())
            best_error, best_step = held_error, step
        if step - best_step >= settings.patience:
            break
        optimizer.zero_grad()
        error(training).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return *best, best_step
