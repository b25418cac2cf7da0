"""From source files to the tables that models train on.

The modules in the order in which an interaction passes through them::

    transfer, archive -> download    fetch the files of a dataset
    sources                          find the source files and their checksums
    dartcli.datasets.* or logs       read them into one table of raw interactions
    encode                           replace raw ids with dense codes
    split, features                  cut into train, valid and test; sample negatives; bin numbers
    prepare                          cache the results of encode and split on disk
    tensors                          move a table to the training device

Shared definitions are in ``columns``, ``dataset``, ``manifest``, ``negatives`` and ``seeds``;
``registry`` finds a dataset or log by name.
"""
