// Package e2e checks what Dormouse promises on real microVMs, through the official AWS SDK and raw HTTP.
package e2e
