"""RALI's head: standardise, PCA, bucketed k-means, softmax over cosines to scored prototypes.

Source: *Reasoning as Representation*, section 4 (equations 1 to 3); the temperature and the
standardisation are in the authors' published inference code, not in the equations.
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


def bucket_counts(sizes: np.ndarray, total: int) -> np.ndarray:
    """Number of centroids k_n of each bucket: one where it has members, the rest by need.

    The paper gives N and K but not k_n. Each further centroid goes to the bucket with the most
    members per centroid, never to one that has as many centroids as members.

    Args:
        sizes: members of each bucket ``[N]``.
        total: K, centroids over all buckets.

    Returns:
        Integers ``[N]`` that sum to ``total``.

    Raises:
        InputError: if K is less than the number of filled buckets or more than the members.
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
        prototypes: K, centroids in all.
        buckets: N equal buckets on [1, 5]; 1 is plain k-means.
        seed: of k-means.

    Returns:
        Centroids ``[K, M]`` and scores ``[K]``, in order of buckets (equations 1 and 2).

    Raises:
        InputError: see :func:`bucket_counts`.
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
        # Equal images give fewer distinct centroids than asked for; the spare ones stay.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fit = KMeans(clusters, n_init=1, random_state=seed).fit(embeddings)
    members = np.bincount(fit.labels_, minlength=clusters)
    sums = np.bincount(fit.labels_, weights=mos, minlength=clusters)
    scores = np.where(members > 0, sums / np.maximum(members, 1), mos.mean())
    return fit.cluster_centers_, scores


def principal_axes(embeddings: np.ndarray, dims: int) -> np.ndarray:
    """The first ``dims`` principal axes of centred embeddings ``[L, D]``, as ``[D, M]``.

    0 gives the identity, so that the head has one form with and without PCA.
    """
    if not dims:
        return np.eye(embeddings.shape[1])
    from sklearn.decomposition import PCA

    # Of the covariance: as exact here as an SVD and several times faster. "auto" may take the
    # randomised solver, which a rerun does not reproduce.
    return np.asarray(PCA(dims, svd_solver="covariance_eigh").fit(embeddings).components_.T)


def weighted_score(
    points: Tensor, prototypes: Tensor, scores: Tensor, temperature: float
) -> Tensor:
    """Equation 3: the mean of prototype scores weighted by a softmax over cosines.

    Args:
        points: compressed embeddings ``[B, M]``.
        prototypes: ``[K, M]``.
        scores: ``[K]``.
        temperature: divides the cosines.

    Returns:
        Scores ``[B]``.
    """
    cosines = F.normalize(points, dim=1) @ F.normalize(prototypes, dim=1).T
    return (cosines / temperature).softmax(dim=1) @ scores


class PrototypeHead(nn.Module):
    """Scores embeddings by their cosine to scored prototypes.

    All state is in buffers, of shapes known before the fit, so that a checkpoint holds the head
    beside the encoder and an optimizer of the encoder never touches it.

    Args:
        dim: dimensions D of the embedding.
        settings: of the head.
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
        """Standardised embeddings on the principal axes: ``[B, D] -> [B, M]``, in float32."""
        return (embeddings.float() - self.mean) @ self.axes

    def forward(self, embeddings: Tensor) -> Tensor:
        """Scores ``[B]`` of embeddings ``[B, D]``, within [1, 5].

        The fine-tuning, which fits `weighted_score` itself, moves scores of prototypes beyond; see
        `within_scale`.

        In float32 under autocast too: in bfloat16 scores between 2 and 4 are 1/64 apart.
        """
        with torch.autocast(embeddings.device.type, enabled=False):
            points = self.compress(embeddings)
            found = weighted_score(points, self.prototypes, self.scores, self.settings.temperature)
            return within_scale(found)

    @torch.no_grad()
    def fit(self, embeddings: Tensor, mos: Tensor) -> dict[str, float]:
        """Set the whole head from training embeddings.

        Args:
            embeddings: ``[L, D]``.
            mos: ``[L]`` on [1, 5].

        Returns:
            What to log: root mean square error on the training set before and after the
            fine-tuning, and the steps that it took.

        Raises:
            InputError: if the settings do not suit the number of embeddings.
        """
        self.settings.check(*embeddings.shape)
        values = embeddings.double().cpu().numpy()
        # A dimension that never varies carries nothing; 1 keeps it at zero after centring.
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
        # The division by the spread is folded into the axes: one product fewer per image.
        found = (values.mean(0), axes / spread[:, None], centroids, scores)
        targets = (self.mean, self.axes, self.prototypes, self.scores)
        for buffer, value in zip(targets, found, strict=True):
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
    """Fit prototypes and scores to MOS by squared error, stopped on held-out samples.

    The paper names the learning rate alone; loss (MSE), optimizer (AdamW without decay), full
    batches and the stop are ours.

    Args:
        points: compressed embeddings ``[L, M]``.
        mos: ``[L]``.
        prototypes: start ``[K, M]``.
        scores: start ``[K]``.
        settings: of the head.

    Returns:
        Prototypes and scores of the step with the least held-out error (the start included),
        and the number of that step.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    order = torch.randperm(len(points), generator=generator).to(points.device)
    held_count = max(1, round(settings.holdout * len(points)))
    held, kept = ((points[rows], mos[rows]) for rows in order.tensor_split([held_count]))
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
        error(kept).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return *best, best_step
