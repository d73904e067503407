package sqs

import (
	"net/http"

	"github.com/mayflyhq/mayfly/internal/aws/api/sqsapi"
	"github.com/mayflyhq/mayfly/internal/aws/apierr"
)

func errNoQueue() *apierr.Error {
	e := *sqsapi.ErrQueueDoesNotExist("The specified queue does not exist.")
	e.QueryMessage = "The specified queue does not exist for this wsdl version."
	return &e
}

func missing(parameter string) *apierr.Error {
	return sqsapi.ErrMissingRequiredParameterException("The request must contain the parameter %s.", parameter)
}

func invalidParameter(format string, args ...any) *apierr.Error {
	return sqsapi.ErrInvalidParameterValueException(format, args...)
}

// invalid is the usual form: the value, the parameter and why.
func invalid(value any, parameter, reason string) *apierr.Error {
	return invalidParameter("Value %v for parameter %s is invalid. Reason: %s", value, parameter, reason)
}

func invalidAttribute(name string) *apierr.Error {
	return sqsapi.ErrInvalidAttributeValue("Invalid value for the parameter %s.", name)
}

func unknownAttribute(name string) *apierr.Error {
	return sqsapi.ErrInvalidAttributeName("Unknown Attribute %s.", name)
}

func noSuchResource(parameter string) *apierr.Error {
	return sqsapi.ErrResourceNotFoundException("The resource that you specified for the %s parameter doesn't exist.", parameter)
}

func errAccessDenied(url string) *apierr.Error {
	return apierr.New("AccessDenied", http.StatusForbidden, "Access to the resource %s is denied.", url)
}
