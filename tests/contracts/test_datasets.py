"""Every dataset in the catalog states its name, license, citation, and documented options."""

import pytest

from dartcli import catalog
from dartcli.data.dataset import Dataset


@pytest.mark.parametrize("name", catalog.names("datasets"))
def test_a_dataset_describes_itself(name: str) -> None:
    dataset: Dataset = catalog.load("datasets", name)
    assert dataset.name == name
    for text in (dataset.title, dataset.license, dataset.citation, dataset.homepage):
        assert text.strip()
    options = dataset.options.model_fields
    assert all(field.description for field in options.values()), options


@pytest.mark.parametrize("name", catalog.names("datasets"))
def test_the_default_options_of_a_dataset_are_valid(name: str) -> None:
    dataset: Dataset = catalog.load("datasets", name)
    options = dataset.options()
    assert dataset.options.model_validate(options.model_dump()) == options
