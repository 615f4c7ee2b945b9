# The Go toolchain that go.mod asks for. Sourced by setup.sh.

ensure_go() {
	local wanted
	wanted=$(awk '$1 == "go" { print $2; exit }' go.mod)
	command -v go >/dev/null ||
		fail "Go is not in PATH; install Go $wanted or newer from https://go.dev/dl, then run make setup again"
	# Go 1.21 and newer fetch the wanted toolchain by themselves, unless GOTOOLCHAIN=local forbids it.
	local found
	found=$(go list -m 2>&1) ||
		fail "Go $wanted or newer is needed and $(go env GOVERSION 2>/dev/null || go version) did not do: $(tail -n1 <<<"$found"); install it from https://go.dev/dl, or unset GOTOOLCHAIN so that Go can fetch it"
}
