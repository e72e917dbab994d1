"""x"""


def legalisations():
    return {}


def match_patterns():
    import tvm

    return tvm.transform.Sequential([])
