// Package provider is the contract between the reconcile loop and the families
// of resources: what a provider promises, and what it may rely on.
package provider
