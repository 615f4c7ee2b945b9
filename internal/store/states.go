package store

// States of a microVM (spec/behaviour.md 2).
const (
	VMPending     = "PENDING"
	VMRunning     = "RUNNING"
	VMSuspending  = "SUSPENDING"
	VMSuspended   = "SUSPENDED"
	VMTerminating = "TERMINATING"
	VMTerminated  = "TERMINATED"
)

// States of an image (spec/behaviour.md 3). A deleted image has no row.
const (
	ImageCreating     = "CREATING"
	ImageCreated      = "CREATED"
	ImageCreateFailed = "CREATE_FAILED"
	ImageUpdating     = "UPDATING"
	ImageUpdated      = "UPDATED"
	ImageUpdateFailed = "UPDATE_FAILED"
	ImageDeleting     = "DELETING"
	ImageDeleteFailed = "DELETE_FAILED"
)

// SettledImageStates are the states in which nothing goes on with an image.
var SettledImageStates = []string{ImageCreated, ImageCreateFailed, ImageUpdated, ImageUpdateFailed, ImageDeleteFailed}

// RunnableImageStates are the states of an image whose SUCCESSFUL and ACTIVE versions can be run
// (spec/behaviour.md 3, and the row "runnable image states" of Decisions).
var RunnableImageStates = []string{ImageCreated, ImageUpdated, ImageUpdating, ImageUpdateFailed}

// States and statuses of an image version (spec/behaviour.md 3).
const (
	VersionPending      = "PENDING"
	VersionInProgress   = "IN_PROGRESS"
	VersionSuccessful   = "SUCCESSFUL"
	VersionFailed       = "FAILED"
	VersionDeleting     = "DELETING"
	VersionDeleted      = "DELETED" // in events only: a deleted version has no row
	VersionDeleteFailed = "DELETE_FAILED"

	StatusActive   = "ACTIVE"
	StatusInactive = "INACTIVE"
)

// ConnectorActive is the state of a network connector that can be used (spec/api.md 6). There is
// nothing to wait for before it, so no row has another state; a deleted connector has no row.
const ConnectorActive = "ACTIVE"

// States of a build (spec/behaviour.md 3).
const (
	BuildPending    = "PENDING"
	BuildInProgress = "IN_PROGRESS"
	BuildSuccessful = "SUCCESSFUL"
	BuildFailed     = "FAILED"
)
