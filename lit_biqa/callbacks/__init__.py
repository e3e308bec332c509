"""What every method's run does beside training: report, write predictions, measure, show."""

from lit_biqa.callbacks.correlation import CorrelationReport

__all__ = ["CorrelationReport"]
