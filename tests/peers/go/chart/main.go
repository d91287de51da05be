// Reads Kubernetes documents on standard input, decodes each strictly into the types of Kubernetes' own API (an unknown kind, an unknown
// member, one given twice and a value of another type are errors), validates it with the code of its API server, and writes it as one line
// of JSON.
package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/apis/apps"
	_ "k8s.io/kubernetes/pkg/apis/apps/install"
	appsvalidation "k8s.io/kubernetes/pkg/apis/apps/validation"
	"k8s.io/kubernetes/pkg/apis/core"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/kubernetes/pkg/apis/networking"
	_ "k8s.io/kubernetes/pkg/apis/networking/install"
	networkingvalidation "k8s.io/kubernetes/pkg/apis/networking/validation"
	"k8s.io/kubernetes/pkg/apis/policy"
	_ "k8s.io/kubernetes/pkg/apis/policy/install"
	policyvalidation "k8s.io/kubernetes/pkg/apis/policy/validation"
)

func main() {
	if err := check(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func check(in io.Reader, out io.Writer) error {
	documents := yaml.NewYAMLReader(bufio.NewReader(in))
	for number := 1; ; number++ {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if isEmpty(document) {
			continue
		}
		if err := accept(document); err != nil {
			return fmt.Errorf("document %d: %w", number, err)
		}
		line, err := yaml.ToJSON(document)
		if err != nil {
			return fmt.Errorf("document %d: %w", number, err)
		}
		fmt.Fprintf(out, "%s\n", line)
	}
}

func accept(document []byte) error {
	strict := serializer.NewCodecFactory(legacyscheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	if _, _, err := strict.Decode(document, nil, nil); err != nil {
		return err
	}
	// The same with the API server's defaults, in its internal form.
	object, _, err := legacyscheme.Codecs.UniversalDecoder().Decode(document, nil, nil)
	if err != nil {
		return err
	}
	return validate(object).ToAggregate()
}

func validate(object runtime.Object) field.ErrorList {
	const namespace = "namespace"
	pod := corevalidation.PodValidationOptions{}
	switch it := object.(type) {
	case *apps.Deployment:
		it.Namespace = namespace
		return appsvalidation.ValidateDeployment(it, pod)
	case *apps.StatefulSet:
		it.Namespace = namespace
		return appsvalidation.ValidateStatefulSet(it, appsvalidation.StatefulSetValidationOptions{}, pod)
	case *core.ConfigMap:
		it.Namespace = namespace
		return corevalidation.ValidateConfigMap(it)
	case *core.Service:
		it.Namespace = namespace
		return corevalidation.ValidateServiceCreate(it)
	case *networking.NetworkPolicy:
		it.Namespace = namespace
		return networkingvalidation.ValidateNetworkPolicy(it, networkingvalidation.NetworkPolicyValidationOptions{})
	case *policy.PodDisruptionBudget:
		it.Namespace = namespace
		return policyvalidation.ValidatePodDisruptionBudget(it, policyvalidation.PodDisruptionBudgetValidationOptions{})
	}
	return field.ErrorList{field.Invalid(field.NewPath("kind"), fmt.Sprintf("%T", object), "the chart has no such document")}
}

func isEmpty(document []byte) bool {
	for _, line := range bytes.Split(document, []byte("\n")) {
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' && !bytes.Equal(line, []byte("---")) {
			return false
		}
	}
	return true
}
