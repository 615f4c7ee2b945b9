// Package conformance has real AWS clients take images and VMs through their whole life, each by the same steps.
package conformance
