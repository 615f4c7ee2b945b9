# The Go toolchain that go.mod asks for, and the program that makes the assets. Sourced by setup.sh.

ensure_go() {
	local wanted said
	wanted=$(awk '$1 == "go" { print $2; exit }' go.mod)
	command -v go >/dev/null ||
		fail "Go is not in PATH; install Go $wanted or newer from https://go.dev/dl, then run make setup again"
	# Go 1.21 and newer fetch the wanted toolchain by themselves, unless GOTOOLCHAIN=local forbids it.
	said=$(go list -m 2>&1) ||
		fail "Go $wanted or newer is needed: $(tail -n1 <<<"$said"); install it from https://go.dev/dl, or unset GOTOOLCHAIN so that Go can fetch it"
	said=$(go build -o bin/make-assets ./setup/cmd/make-assets 2>&1) ||
		fail "could not build setup/cmd/make-assets: $(tail -n1 <<<"$said"); check that Go can fetch modules (GOPROXY, network), then run make setup again"
}
