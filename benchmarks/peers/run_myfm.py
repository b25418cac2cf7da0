"""myFM's classifier: a Bayesian factorization machine, one Gibbs sample per epoch."""

from _curve import FACTORS, Curve, one_hot, read
from myfm import MyFMGibbsClassifier
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

BURN_IN = 5
curve = Curve()
ids, labels, sizes = read()
rows = one_hot(ids, sizes)
sums = {}


def callback(sample: int, fm: object, *_: object) -> tuple[bool, None]:
    """Add the probabilities of a sample to the mean over all samples after the burn-in."""

    def measure(split: str) -> float:
        found = norm.cdf(fm.predict_score(rows[split], []))
        earlier = sums.get(split, 0) if sample > BURN_IN else 0
        sums[split] = earlier + found
        return roc_auc_score(labels[split], sums[split])

    curve.end()
    best = curve.add(measure("valid"))
    with curve.pause():
        test_auc = measure("test")
    curve.test_auc = test_auc if best else curve.test_auc
    curve.start()
    return False, None


curve.start()
MyFMGibbsClassifier(FACTORS, random_seed=0).fit(
    rows["train"], labels["train"], n_iter=curve.limit, n_kept_samples=1,
    group_shapes=sizes, callback=callback,
)  # fmt: skip
curve.report("myfm")
