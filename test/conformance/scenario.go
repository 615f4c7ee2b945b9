package conformance

// scenario is what every client goes through, in this order. What needs no VM is done while images
// are being built.
var scenario = []chapter{
	managedImages, imageBegins,
	refusedImages, unknownImages, unknownVMs, refusedLists,
	imageIsBuilt, failedBuild, callers, tags, refusedRuns,
	launch, endpoint, sleep, retire, shell, connectors, terminate,
	updateBegins, updated, deleted,
}
