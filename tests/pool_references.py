"""The estimators of `tcs.pool_labels` a second time: dense numpy in float64, from their formulas, nothing of the package.

Legend: N rows of the pool, M labelled rows, K coordinates, J = K + 1 (ones last), C classes.
"""

import numpy as np

PENALTIES = 10.0 ** np.arange(-6, 4.25, 0.5)


def blobs(per_class=(40, 40, 40), dims=6, apart=2.5, shots=1, seed=0):
    """(rows, labels, positions of the labelled rows): Gaussian clusters in mixed order; `shots` labelled rows a class."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.repeat(np.arange(len(per_class)), per_class))
    centres = apart * np.linalg.qr(generator.normal(size=(max(dims, len(per_class)),) * 2))[0][: len(per_class), :dims]
    rows = (centres[labels] + generator.normal(size=(len(labels), dims)) * np.linspace(1.2, 0.5, dims) + 3).astype(
        np.float32
    )
    positions = np.concatenate([np.flatnonzero(labels == label)[:shots] for label in range(len(per_class))])
    return rows, labels, positions


def standardised(rows):
    """Rows (N, J) about their mean, of mean variance 1, with ones."""
    rows = rows.astype(np.float64)
    centred = rows - rows.mean(0)
    return np.hstack([centred / np.sqrt((centred**2).mean()), np.ones((len(rows), 1))])


def softmax(logits):
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def one_hot(labels, classes):
    return np.eye(classes)[labels]


def ridge_probe(x_NJ, labels, classes):
    """+-1 targets, the penalty of least leave-one-out error by leaving each row out in earnest; (C, J)."""
    x, targets = x_NJ[:, :-1], 2 * one_hot(labels, classes) - 1
    scale = ((x - x.mean(0)) ** 2).sum() / x.shape[1]

    def fit(x, targets, penalty):
        mean = x.mean(0)
        inner = (x - mean).T @ (x - mean) + penalty * np.eye(x.shape[1])
        weight = np.linalg.solve(inner, (x - mean).T @ (targets - targets.mean(0))).T
        return np.hstack([weight, (targets.mean(0) - weight @ mean)[:, None]])

    errors = []
    for penalty in PENALTIES * scale:
        out = 0.0
        for row in range(len(x)):
            kept = np.arange(len(x)) != row
            out += ((targets[row] - fit(x[kept], targets[kept], penalty) @ np.append(x[row], 1)) ** 2).sum()
        errors.append(out)
    return fit(x, targets, PENALTIES[np.argmin(errors)] * scale)


def sinkhorn(soft_NC, prior_C, factors_C):
    """Columns to the prior and rows to one, in turns on the matrix itself; begun, and ended, with these column factors."""
    soft_NC = soft_NC * factors_C
    for _ in range(20):
        soft_NC = soft_NC / soft_NC.sum(1, keepdims=True)
        turn_C = prior_C / soft_NC.mean(0)
        soft_NC, factors_C = soft_NC * turn_C, factors_C * turn_C
        if np.abs(np.log(turn_C)).max() < 1e-3:
            break
    return soft_NC / soft_NC.sum(1, keepdims=True), factors_C


class Balance:
    """Balanced soft labels of one fit; column factors of one call are where the next begins."""

    def __init__(self, options, classes):
        self.name, self.factors_C = options.balance, np.ones(classes)
        self.prior_C = np.full(classes, 1 / classes) if options.class_prior is None else np.asarray(options.class_prior)

    def __call__(self, logits_NC):
        before = softmax(logits_NC)
        if self.name == "none":
            return before
        if self.name == "estimated":
            return before_weighted(before)
        after, self.factors_C = sinkhorn(before, self.prior_C, self.factors_C)
        if self.name != "half":
            return after
        middle = np.sqrt(before * after)
        return middle / middle.sum(1, keepdims=True)


def before_weighted(before):
    """EM for the weights of a mixture, with a pseudo-row of equal shares for every row."""
    weights = np.full(before.shape[1], 1 / before.shape[1])
    for _ in range(20):
        joint = before * weights
        weights = ((joint / joint.sum(1, keepdims=True)).mean(0) + 1 / before.shape[1]) / 2
    joint = before * weights
    return joint / joint.sum(1, keepdims=True)


def calibrated(head_CJ, x_NJ, options, balance=None):
    """The soft labels of all rows, by scores of standard deviation `sharpness`."""
    scores = x_NJ @ head_CJ.T
    balance = balance or Balance(options, len(head_CJ))
    return balance(scores * options.sharpness / scores.std(ddof=1))


def label_weight(options, rows, labels, classes):
    return min(1.0, options.label_weight * len(labels) / classes) * rows / len(labels)


def em(x_NJ, positions, labels, classes, options, m_step, start=None):
    """The head (C, J) after `rounds` rounds."""
    head = ridge_probe(x_NJ[positions], labels, classes) if start is None else start
    weight, balance = label_weight(options, len(x_NJ), labels, classes), Balance(options, classes)
    for _ in range(options.rounds):
        soft = calibrated(head, x_NJ, options, balance)
        soft[positions] = one_hot(labels, classes)
        all_rows = np.vstack([x_NJ, x_NJ[positions]])
        all_soft = np.vstack([soft, one_hot(labels, classes)])
        weights = np.append(np.ones(len(x_NJ)), np.full(len(labels), weight))
        head = m_step(all_rows, all_soft, weights, options)
    return head


def ridge_step(x_NJ, soft_NC, weights_N, options):
    """Weighted ridge regression of 2 P - 1, bias free, as an augmented least-squares problem."""
    squares = (weights_N[:, None] * x_NJ[:, :-1] ** 2).sum(0).mean()
    dims = x_NJ.shape[1]
    penalty = np.sqrt(options.penalty * squares) * np.eye(dims)[:-1]
    root = np.sqrt(weights_N)[:, None]
    left, right = (
        np.vstack([root * x_NJ, penalty]),
        np.vstack([root * (2 * soft_NC - 1), np.zeros((dims - 1, soft_NC.shape[1]))]),
    )
    return np.linalg.lstsq(left, right, rcond=None)[0].T


def gaussian_step(x_NJ, soft_NC, weights_N, options):
    """Class means and the shared covariance row by row; then the log densities as linear scores."""
    x, share = x_NJ[:, :-1], weights_N[:, None] * soft_NC
    means = (share.T @ x) / share.sum(0)[:, None]
    covariance = np.zeros((x.shape[1],) * 2)
    for label in range(soft_NC.shape[1]):
        away = x - means[label]
        covariance += np.einsum("n,nk,nl->kl", share[:, label], away, away)
    covariance /= weights_N.sum()
    level = np.trace(covariance) / len(covariance)
    inverse = np.linalg.inv((1 - options.shrinkage) * covariance + options.shrinkage * level * np.eye(len(covariance)))
    biases = [-0.5 * mean @ inverse @ mean for mean in means]
    return np.hstack([means @ inverse, np.array(biases)[:, None]])


def propagation(x_NJ, positions, labels, classes, options):
    """The head (C, J) of propagated labels: a dense graph and the truncated series of its powers."""
    x = x_NJ[:, :-1]
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -np.inf)
    one_way = np.zeros_like(cosine)
    for row in range(len(x)):
        near = np.argsort(-cosine[row])[: options.neighbours]
        one_way[row, near] = np.maximum(cosine[row, near], 0) ** 3
    joined = one_way + one_way.T
    scale = 1 / np.sqrt(np.maximum(joined.sum(1), 1e-6))
    step = 0.9 * scale[:, None] * joined * scale
    given = np.zeros((len(x), classes))
    given[positions] = one_hot(labels, classes)
    spread, power = np.zeros_like(given), given
    for _ in range(20):
        spread, power = spread + 0.1 * power, step @ power
    spread = (spread + power) / (spread + power).sum(0)
    soft = spread / spread.sum(1, keepdims=True)
    soft = Balance(options, classes)(np.log(np.maximum(soft, 1e-6)))
    entropy = -(soft * np.log(np.maximum(soft, 1e-6))).sum(1)
    sure = np.maximum(1 - entropy / np.log(classes), 1e-6)
    weight = label_weight(options, len(x), labels, classes)
    weights = np.append(sure, np.full(len(labels), weight * sure.mean()))
    return ridge_step(np.vstack([x_NJ, x_NJ[positions]]), np.vstack([soft, one_hot(labels, classes)]), weights, options)


def mutual_information(x_NJ, positions, labels, classes, options, marginal_weight):
    """The head (C, J) after 150 steps of Adam on the gradient written out by hand."""
    head = ridge_probe(x_NJ[positions], labels, classes)
    head = head * options.sharpness / (x_NJ @ head.T).std(ddof=1)
    shift = np.log(Balance(options, classes)(x_NJ @ head.T)) - x_NJ @ head.T
    head[:, -1] += (shift - shift.mean(1, keepdims=True)).mean(0)
    first, second = np.zeros_like(head), np.zeros_like(head)
    prior = np.full(classes, 1 / classes) if options.class_prior is None else np.asarray(options.class_prior)
    for step in range(1, 151):
        p = softmax(x_NJ @ head.T)
        mean = p.mean(0)
        of_p = marginal_weight * (np.log(mean / prior) + 1) / len(p) - 0.1 * (np.log(p) + 1) / len(p)
        of_logits = p * (of_p - (p * of_p).sum(1, keepdims=True))
        wrong = softmax(x_NJ[positions] @ head.T) - one_hot(labels, classes)
        gradient = of_logits.T @ x_NJ + wrong.T @ x_NJ[positions] / len(labels)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        head = head - 0.02 * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    return head
