"""One file per policy that a call passes through, all of one type; `compose` folds them."""
