package conformance

// scenario is what every client goes through, in this order. What needs no VM is done while images
// are being built.
var scenario = []chapter{
	managedImages, limits, imageBegins,
	independent(refusedImages), independent(unknownImages), independent(unknownVMs), independent(refusedLists),
	imageIsBuilt, failedBuild, independent(callers), tags, independent(refusedRuns),
	launch, endpoint, sleep, strangers, retire, shell, connectors, terminate,
	updateBegins, updated, deleted,
}

// independent marks a chapter whose steps need not come one after the other. Whole processes, as the
// AWS CLI's, take a while.
func independent(c chapter) chapter {
	c.independent = true
	return c
}
