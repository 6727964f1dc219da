"""When a model that is being hardened withstands enough, and which of its weights were best."""

import keras


class HardeningWatch(keras.callbacks.Callback):
    """Measures after each epoch, keeps the best weights within the bound, and ends training.

    Args:
        measure: Function without arguments that gives a `RobustnessReport` of held-out examples.
        inner: The model whose weights are kept.
        target: Robust accuracy that ends training.
        max_clean_drop: How much clean accuracy may fall from the first measurement on.
        warmup_epochs: Over how many epochs the radius that is trained on grows.
    """

    def __init__(self, measure, inner, target, max_clean_drop, warmup_epochs):
        super().__init__()
        self.measure, self.inner = measure, inner
        self.target, self.max_clean_drop = target, max_clean_drop
        self.warmup_epochs = warmup_epochs
        self.history = []
        self.best, self.best_robust = None, -1.0
        self.done = self.improved = False

    def look(self, epoch):
        """Measures, and says whether both bounds are met."""
        report = self.measure()
        clean, robust = report.clean.value, report.worst_case.value
        self.history.append({"epoch": epoch, "clean": clean, "robust": robust})
        first = self.history[0]
        affordable = clean >= first["clean"] - self.max_clean_drop
        if affordable and robust > self.best_robust:
            self.best, self.best_robust = self.inner.get_weights(), robust
            self.improved = robust > first["robust"]
        self.done = affordable and robust >= self.target
        return self.done

    def on_train_begin(self, logs=None):
        """Lets the radius that is trained on grow."""
        self._scale = None
        if self.warmup_epochs:
            self._scale, is_new = self.model.objective.scale_epsilon()
            if is_new and self.model.train_function is not None:
                self.model.make_train_function(force=True)

    def on_epoch_begin(self, epoch, logs=None):
        """Sets the radius of this epoch."""
        if self._scale is not None:
            self._scale.assign(min(1.0, (epoch + 1) / (self.warmup_epochs + 1)))

    def on_epoch_end(self, epoch, logs=None):
        """Ends training when both bounds are met."""
        if self.look(epoch + 1):
            self.model.stop_training = True
