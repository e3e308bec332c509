"""Bytes of a step, against sums by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lit_biqa.planning.activations import kept, saved
from lit_biqa.planning.advice import advice
from lit_biqa.planning.loading import per_host
from lit_biqa.planning.phases import HOLDERS, peak, phases
from lit_biqa.planning.sizes import Piece, Sizes
from lit_biqa.planning.stack import Stack
from lit_biqa.planning.work import Pass, Work

# 100 values a block, 60 in the root, of which the head has 20; all in float32.
BLOCK, ROOT, HEAD = Piece(100, 400, 400, 80), Piece(60, 240, 240, 80), Piece(20, 80, 80, 80)
SIZES = Sizes(
    blocks=(BLOCK, BLOCK),
    root=ROOT,
    decoder=Stack(depth=2, width=4, queries=4, keys=2, inner=8, linear=90),
    tower=Stack(depth=0, width=4, queries=4, keys=4, inner=8),
    language=Piece(240, 960, 960, 80),
    words=Piece(40, 160, 160, 80),
    head=HEAD,
    vocabulary=5,
    image=3,
    patches=12,
    fused=False,
    sees=True,
)
SFT = Work("sft", gpus=2, sharded=True, images=1, passes=(Pass(1, 10),))


def test_fine_tuning_by_hand() -> None:
    plan = phases(SIZES, SFT)
    step = plan["optimizer step"]
    # 260 values: half on each GPU, with two moments; square roots of the second moments
    assert (step["weights"], step["gradients"], step["optimizer"]) == (520, 520, 3 * 520)
    backward = plan["backward"]
    # shards of two blocks; the root whole; a block whole and flattened
    assert backward["gradients"] == 400 + 240 + 2 * 400
    # root, block and next block
    assert backward["gathered weights"] == 240 + 2 * 400
    # 10 positions of 2 blocks: (8 * 4 + 2 * 2 + 4 * 8) values each
    assert plan["forward"]["activations"] == 10 * 2 * 68 * 4
    assert all(set(held) == set(HOLDERS) for held in plan.values())


def test_copies_on_each_gpu_gather_nothing() -> None:
    plan = phases(SIZES, replace(SFT, sharded=False))
    assert {held["gathered weights"] for held in plan.values()} == {0}
    assert plan["optimizer step"]["weights"] == 1040


def test_gathering_in_bfloat16_takes_half() -> None:
    half = phases(SIZES, replace(SFT, gather=2))["backward"]["gathered weights"]
    assert 2 * half == phases(SIZES, SFT)["backward"]["gathered weights"]


def test_blocks_that_stay_whole_are_all_whole_at_the_end_of_a_forward_pass() -> None:
    plan, again = (phases(SIZES, replace(SFT, reshard=reshard)) for reshard in (False, True))
    # root and two blocks, without a next one
    assert plan["forward"]["gathered weights"] == 240 + 2 * 400
    assert plan["backward"] == again["backward"]
    deep = replace(SIZES, blocks=SIZES.blocks * 3)
    assert phases(deep, replace(SFT, reshard=False))["forward"]["gathered weights"] == 240 + 6 * 400


def test_checkpointing_keeps_hidden_states_alone() -> None:
    assert kept(SIZES.decoder, replace(SFT, checkpointing=True), 10) == 10 * 2 * 4 * 4
    assert saved(SIZES.decoder, replace(SFT, autocast=True)) == 24 * 4 + 4 * 2 + 8 * 8


def test_reference_is_a_copy_that_is_whole_in_its_pass() -> None:
    one = Pass(1, 10, copies=2)
    policy = replace(
        SFT, method="grpo", passes=(one,), budget=4, rows_at_once=1, reference=True, moments=0
    )
    plan = phases(SIZES, policy)
    rollout = plan["rollout"]
    assert rollout["reference model"] == 520
    assert plan["reference"]["gathered weights"] == plan["loss"]["gathered weights"] == 1040
    assert rollout["gathered weights"] == 1040
    # 10 positions of the chat and 2 x 4 of its completions; keys and values of 2, in 2 blocks
    assert rollout["keys and values"] == (10 + 8) * 2 * 2 * 2 * 4
    # rows of files that two processes share; else two copies for each of them
    assert per_host(SIZES, replace(policy, stored=True)) == 1040
    assert per_host(SIZES, policy) == 2 * 2 * 1040


def test_advice_names_the_setting_that_makes_it_fit() -> None:
    long = replace(SFT, passes=(Pass(1, 1000),))
    less = replace(long, checkpointing=True)
    memory = peak(phases(SIZES, less))[1]
    assert advice(SIZES, long, memory) == (
        "set --model.init_args.backbone.init_args.tuning.checkpointing=true"
    )
    assert "backbone/lora" in advice(SIZES, long, 10)


@pytest.mark.parametrize("setting", ["rows_at_once=1", "prompts_at_once=1", "batch_size=2"])
def test_advice_goes_on_until_it_fits(setting: str) -> None:
    one = Pass(4, 100, copies=4)
    policy = replace(
        SFT, method="grpo", images=4, passes=(one,), budget=50, rows_at_once=8, checkpointing=True
    )
    smaller = replace(policy, rows_at_once=1, rollout_at_once=1)
    smallest = replace(smaller, images=1, passes=(replace(one, chats=1),))
    assert setting in advice(SIZES, policy, peak(phases(SIZES, smallest))[1])
