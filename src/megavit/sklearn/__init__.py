"""Estimators for scikit-learn: `from megavit.sklearn import MegaVitClassifier, MegaVitRegressor`."""

from megavit.sklearn.classifier import MegaVitClassifier as MegaVitClassifier
from megavit.sklearn.regressor import MegaVitRegressor as MegaVitRegressor
