"""Where a CVM gets its hardware report and the public papers that go with it: one module for each kind of hardware."""
