package conformance

// scenario is what every client goes through, in this order. What needs no VM is done while images
// are being built.
var scenario = []chapter{
	managedImages, limits, imageBegins,
	refusedImages, unknownImages, unknownVMs, refusedLists,
	imageIsBuilt, failedBuild, callers, tags, refusedRuns,
	launch, endpoint, sleep, strangers, retire, shell, connectors, terminate,
	updateBegins, updated, deleted,
}
