"""The choice between methods: engines that share one budget by what they gain."""
