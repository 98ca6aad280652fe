"""Rays of a runner's own that start and stop leave nothing behind: no process, thread, open file or folder of ours."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clusters.faults.test_ray_leaks import own_folder, start_own

pytestmark = pytest.mark.slow

__all__ = ["own_folder"]


def test_own_rays_leave_nothing(ray_options: dict[str, Any]) -> None:
    start_own(1, ray_options)


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_campaign_of_own_rays(ray_options: dict[str, Any]) -> None:
    print(f"\ncampaign: Ray of one's own: {start_own(20, ray_options)}")
