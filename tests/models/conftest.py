"""Exported students, made once."""

from __future__ import annotations

import pytest
from exports import VISITS, Export, criteo_log, export, shop_log, visits_log
from shop import SHOP

from features.schema import CRITEO


@pytest.fixture(scope="session")
def criteo(tmp_path_factory: pytest.TempPathFactory) -> Export:
    folder = tmp_path_factory.mktemp("criteo")
    return export(folder, CRITEO, criteo_log(folder), subclasses=3, statistics=False)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Export:
    return export(tmp_path_factory.mktemp("shop"), SHOP, shop_log(), subclasses=1, statistics=False)


@pytest.fixture(scope="session")
def with_statistics(tmp_path_factory: pytest.TempPathFactory) -> Export:
    return export(tmp_path_factory.mktemp("statistics"), SHOP, shop_log(), subclasses=2, statistics=True)


@pytest.fixture(scope="session")
def visits(tmp_path_factory: pytest.TempPathFactory) -> Export:
    """Every kind of column, every transform, click statistics, hash buckets, and a share of the rows without click."""
    folder = tmp_path_factory.mktemp("visits")
    return export(folder, VISITS, visits_log(), subclasses=2, statistics=True, buckets=7, negative_rate=0.25)


@pytest.fixture(params=["criteo", "shop", "with_statistics", "visits"])
def exported(request: pytest.FixtureRequest) -> Export:
    found: Export = request.getfixturevalue(request.param)
    return found
