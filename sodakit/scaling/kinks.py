"""The exact minimum where a misfit is nearly absolute: a linear programme for each step.

At such a minimum the law goes through as many runs as it has parameters. Newton's method sees no slope towards that corner and
stops 0.1 to 4 % above it; the programme that has the absolute costs and the law's own slopes goes there in a few steps.
"""

from dataclasses import replace

import numpy as np
from scipy import optimize, sparse

from sodakit.scaling.solve import Problem, Refined, refine

_STEPS = 25
_LAST = 1e-9
"""A fall of the objective, as a share of it, below which the corner is reached."""


def settle(problem: Problem, found: Refined, weights_R: np.ndarray, free_P: np.ndarray) -> Refined:
    """The best of the refined solutions taken to its corner; with it agree those that were as low before it."""
    best = int(np.argmin(found.objective_S))
    solution_P, value = found.solutions_SP[best].copy(), float(found.objective_S[best])
    near_S = found.objective_S <= value * 1.02 + 1e-300
    reach = 0.1
    for _ in range(_STEPS):
        step_P = _programme(problem, solution_P, weights_R, free_P, reach)
        if step_P is None:
            break
        trial_P = solution_P + step_P
        lower = float(problem.value(trial_P[None], weights_R[None])[0])
        if lower < value:
            fall = (value - lower) / max(value, 1e-300)
            solution_P, value = trial_P, lower
            reach = min(2 * reach, 1.0)
            if fall < _LAST:
                break
        else:
            reach /= 4
            if reach < 1e-9:
                break
    last = refine(problem, solution_P[None], weights_R[None], free_P)
    if float(last.objective_S[0]) < value:
        solution_P, value = last.solutions_SP[0], float(last.objective_S[0])
    solutions_SP, objective_S = found.solutions_SP.copy(), found.objective_S.copy()
    # What was as good before the last steps is the same corner.
    same_S = near_S & (np.abs(found.solutions_SP - found.solutions_SP[best]).max(1) < 0.05)
    solutions_SP[same_S], objective_S[same_S] = solution_P, value
    return replace(found, solutions_SP=solutions_SP, objective_S=objective_S)


def _programme(
    problem: Problem, solution_P: np.ndarray, weights_R: np.ndarray, free_P: np.ndarray, reach: float
) -> np.ndarray | None:
    """The step within `reach` that is best if the law were linear and the cost absolute; None where there is none."""
    residual_SR, slopes_SRP = problem.slopes(solution_P[None])
    used = weights_R > 0
    residual_R, slopes_RP = residual_SR[0][used], slopes_SRP[0][used][:, free_P]
    n, p = slopes_RP.shape
    misfit = problem.misfit
    # residual + slopes step = above - below
    eye = sparse.identity(n, format="csr")
    found = optimize.linprog(
        np.concatenate([np.zeros(p), misfit.over * weights_R[used], misfit.under * weights_R[used]]),
        A_eq=sparse.hstack([sparse.csr_matrix(slopes_RP), -eye, eye], format="csr"),
        b_eq=-residual_R,
        bounds=[(-reach, reach)] * p + [(0, None)] * (2 * n),
        method="highs",
    )
    if not found.success:
        return None
    step_P = np.zeros(len(solution_P))
    step_P[free_P] = found.x[:p]
    return step_P
