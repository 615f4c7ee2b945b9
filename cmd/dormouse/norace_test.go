//go:build !race

package main

const initFactor = 1
