"""Tests replace parts of the nodes by doubles, which compiled modules do not allow: in the process of the tests the
sources of the nodes run, whereas the nodes of live tests are processes of their own and run as users run them.
`tests/unit/nodes/test_compiled.py` holds the two against each other.
"""

import os

COMPILED = "BROKERLAB_TESTS"
"""Set to "compiled" the compiled modules run in the process of the tests, too."""

if os.environ.get(COMPILED) != "compiled":
    before = os.environ.get("BROKERLAB_NODES")
    os.environ["BROKERLAB_NODES"] = "sources"
    import nodes  # noqa: F401 - decides what is imported

    if before is None:
        del os.environ["BROKERLAB_NODES"]
    else:
        os.environ["BROKERLAB_NODES"] = before
