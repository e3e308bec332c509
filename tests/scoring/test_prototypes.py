from dataclasses import replace

import numpy as np
import pytest
import torch

from lit_biqa.scoring.head_settings import HeadSettings
from lit_biqa.scoring.prototypes import (
    PrototypeHead,
    bucket_counts,
    bucketed_kmeans,
    finetune,
    principal_axes,
    weighted_score,
)
from lit_biqa.types import InputError

SMALL = HeadSettings(pca=6, prototypes=20, buckets=10, steps=60, patience=60)


def made_up(count: int = 200, dim: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings of three causes, the first of which is the MOS, and noise."""
    generator = torch.Generator().manual_seed(0)
    mos = 1 + 4 * torch.rand(count, generator=generator)
    causes = torch.stack([mos - 3, *torch.randn(2, count, generator=generator)], dim=1)
    noise = 0.3 * torch.randn(count, dim, generator=generator)
    return causes @ torch.randn(3, dim, generator=generator) + noise, mos


def test_counts_give_one_each_and_the_rest_by_need() -> None:
    assert bucket_counts(np.array([10, 0, 1, 4]), 5).tolist() == [3, 0, 1, 1]
    assert bucket_counts(np.array([2, 2]), 4).tolist() == [2, 2]


@pytest.mark.parametrize("total", [1, 8])
def test_counts_that_cannot_be_shared_are_refused(total: int) -> None:
    with pytest.raises(InputError, match="2 filled score buckets with 7 images"):
        bucket_counts(np.array([3, 0, 4]), total)


def test_one_centroid_per_bucket_is_the_mean_of_its_members() -> None:
    # Equations 1 and 2 by hand: buckets [1, 3) and [3, 5].
    embeddings = np.array([[0.0, 0.0], [2.0, 4.0], [10.0, 10.0], [12.0, 10.0]])
    mos = np.array([1.0, 2.0, 4.0, 5.0])
    centroids, scores = bucketed_kmeans(embeddings, mos, prototypes=2, buckets=2, seed=0)
    assert centroids.tolist() == [[1.0, 2.0], [11.0, 10.0]]
    assert scores.tolist() == [1.5, 4.5]


def test_plain_kmeans_equals_sklearn() -> None:
    from sklearn.cluster import KMeans

    embeddings, mos = (x.double().numpy() for x in made_up())
    centroids, scores = bucketed_kmeans(embeddings, mos, prototypes=7, buckets=1, seed=3)
    reference = KMeans(7, n_init=1, random_state=3).fit(embeddings)
    assert np.allclose(centroids, reference.cluster_centers_)
    for cluster in range(7):
        assert scores[cluster] == pytest.approx(mos[reference.labels_ == cluster].mean())


def test_all_prototypes_are_reached_and_stay_in_their_bucket() -> None:
    embeddings, mos = (x.double().numpy() for x in made_up())
    centroids, scores = bucketed_kmeans(embeddings, mos, prototypes=60, buckets=40, seed=0)
    assert len(centroids) == len(scores) == 60
    assert (np.diff(((scores - 1) / 4 * 40).astype(int)) >= 0).all()


def test_equal_images_do_not_break_clustering() -> None:
    centroids, scores = bucketed_kmeans(np.ones((6, 2)), np.full(6, 2.0), 3, 4, seed=0)
    assert np.isfinite(centroids).all()
    assert scores.tolist() == [2.0, 2.0, 2.0]


def test_axes_are_those_of_a_singular_value_decomposition() -> None:
    values = made_up()[0].double().numpy()
    values -= values.mean(0)
    axes = principal_axes(values, 4)
    _, _, reference = np.linalg.svd(values, full_matrices=False)
    assert np.allclose(np.abs(axes.T @ reference[:4].T), np.eye(4), atol=1e-8)
    assert np.array_equal(principal_axes(values, 0), np.eye(12))


def test_weighted_score_by_hand_and_with_gradient() -> None:
    points = torch.tensor([[3.0, 0.0]], dtype=torch.double, requires_grad=True)
    prototypes = torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.double, requires_grad=True)
    scores = torch.tensor([1.0, 5.0], dtype=torch.double, requires_grad=True)
    found = weighted_score(points, prototypes, scores, 0.5)
    high = 1 / (1 + np.exp(2.0))  # cosines 1 and 0, over 0.5
    assert found.item() == pytest.approx(1 - high + 5 * high)
    assert torch.autograd.gradcheck(
        lambda p, c, f: weighted_score(p, c, f, 0.5), (points, prototypes, scores)
    )


def test_temperature_of_one_collapses_to_the_mean() -> None:
    embeddings, mos = made_up()
    spread = []
    for temperature in (0.07, 1.0):
        head = PrototypeHead(12, replace(SMALL, temperature=temperature, finetune=False))
        head.fit(embeddings, mos)
        spread.append(head(embeddings).std().item())
    assert spread[1] < 0.5 * spread[0]


def test_head_compresses_as_sklearn_does() -> None:
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    embeddings, mos = made_up()
    head = PrototypeHead(12, SMALL)
    head.fit(embeddings, mos)
    standard = StandardScaler().fit_transform(embeddings.double().numpy())
    reference = PCA(6, svd_solver="full").fit_transform(standard)
    assert np.allclose(head.compress(embeddings).numpy(), reference, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [{}, {"pca": 0}, {"buckets": 1}, {"standardize": False}, {"finetune": False}],
    ids=["full", "no pca", "plain k-means", "not standardised", "no scoring fit"],
)
def test_every_ablation_learns_what_there_is(change: dict[str, object]) -> None:
    embeddings, mos = made_up(400)
    head = PrototypeHead(12, replace(SMALL, **change))  # type: ignore[arg-type]
    report = head.fit(embeddings[:300], mos[:300])
    assert head.fitted
    assert torch.corrcoef(torch.stack([head(embeddings[300:]), mos[300:]]))[0, 1] > 0.8
    assert (report["rmse_after"] < report["rmse_before"]) == (change != {"finetune": False})


def test_fit_is_reproducible_and_survives_a_state_dict() -> None:
    embeddings, mos = made_up()
    first, second = PrototypeHead(12, SMALL), PrototypeHead(12, SMALL)
    first.fit(embeddings, mos)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(embeddings), second(embeddings))
    second.fit(embeddings, mos)
    assert torch.equal(first(embeddings), second(embeddings))


def test_finetuning_never_ends_worse_than_it_began_on_what_is_held_out() -> None:
    embeddings, mos = made_up()
    wild = replace(SMALL, lr=50.0, steps=5, pca=0)
    prototypes = embeddings[:20].clone()
    kept, scores, step = finetune(embeddings, mos, prototypes, mos[:20].clone(), wild)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))[:20]
    before = weighted_score(embeddings[order], prototypes, mos[:20], wild.temperature)
    after = weighted_score(embeddings[order], kept, scores, wild.temperature)
    assert (after - mos[order]).square().mean() <= (before - mos[order]).square().mean()
    assert step <= 5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (replace(SMALL, prototypes=300), "200 training images are fewer than the 300 prototypes"),
        (replace(SMALL, pca=13), "at most 12"),
    ],
)
def test_settings_that_do_not_suit_the_data(settings: HeadSettings, message: str) -> None:
    with pytest.raises(InputError, match=message):
        settings.check(*made_up()[0].shape)


def test_a_dimension_that_never_varies_is_harmless() -> None:
    embeddings, mos = made_up()
    embeddings[:, 5] = 2.0
    head = PrototypeHead(12, SMALL)
    head.fit(embeddings, mos)
    assert torch.isfinite(head(embeddings)).all()


def test_autocast_leaves_scores_as_fine_as_they_are() -> None:
    embeddings, mos = made_up()
    head = PrototypeHead(12, SMALL)
    head.fit(embeddings, mos)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = head(embeddings)
    assert torch.equal(scores, head(embeddings))
