// Package clients has HTTP clients that people use, a browser among them, reach real microVMs in both address modes.
package clients
